-- Transactions that were running when a slot was asked for: its creation waits until all of them have ended.
-- Run by: run. Oldest Postgres: 14.
select pid, application_name, extract(epoch from now() - xact_start)::int as seconds
  from pg_stat_activity
 where backend_xid is not null and pid <> pg_backend_pid()
 order by xact_start
 limit 5
