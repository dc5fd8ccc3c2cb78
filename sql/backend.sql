-- Who holds a slot, by the process id that pg_replication_slots shows.
-- Run by: run (as a standby), drop. Variables: pid. Oldest Postgres: 14.
select application_name, coalesce(host(client_addr), 'a local socket') as client, backend_start
  from pg_stat_activity
 where pid = :'pid'::int
