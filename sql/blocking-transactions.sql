-- Transactions that were running when a slot was asked for: its creation waits until all of them have ended, also those of other
-- databases, and prepared ones. Without pg_read_all_stats the age of other roles' transactions is not shown.
-- Run by: run. Oldest Postgres: 14.
select 'pid ' || pid as what, application_name, extract(epoch from now() - xact_start)::int as seconds
  from pg_stat_activity
 where backend_xid is not null and pid <> pg_backend_pid()
 union all
select 'prepared transaction ' || quote_literal(gid), owner::text, extract(epoch from now() - prepared)::int
  from pg_prepared_xacts
 order by seconds desc nulls last
 limit 5
