-- Who holds a slot, by the process id that pg_replication_slots shows. Without pg_read_all_stats only the name of the program is shown.
-- Run by: run (as a standby), drop. Variables: pid. Oldest Postgres: 14.
select application_name,
       case when client_port = -1 then 'a local socket' else host(client_addr) end as client,
       date_trunc('second', backend_start) as since
  from pg_stat_activity
 where pid = :'pid'::int
