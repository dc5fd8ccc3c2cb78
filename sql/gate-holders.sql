-- Who else makes a gated slot on this server, in whatever database: see gate-lock.sql.
-- Run by: run. Oldest Postgres: 14.
select pid
  from pg_locks
 where locktype = 'advisory' and granted and pid <> pg_backend_pid()
   and classid = x'65766572'::int::oid and objid = x'67617465'::int::oid and objsubid = 2
 limit 1
