-- Takes back what gate-lock.sql has told.
-- Run by: run. Oldest Postgres: 14.
select pg_advisory_unlock_shared(x'65766572'::int, x'67617465'::int)
