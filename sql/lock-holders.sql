-- Who keeps a backend waiting for a lock.
-- Run by: run, snapshot, verify. Variables: pid. Oldest Postgres: 14.
select pid, coalesce(application_name, '') as application_name, extract(epoch from clock_timestamp() - xact_start)::bigint as seconds
  from pg_stat_activity where pid = any (pg_blocking_pids(:'pid'::int))
