-- A request to the pipeline that reads this database: it has its place in the stream, and survives a crash of either.
-- Run by: snapshot. Variables: request (JSON). Oldest Postgres: 14.
select pg_logical_emit_message(true, 'evert', :'request') as lsn
