-- Who has a table of this database for himself: not even its catalog entry can be opened.
-- Run by: run. Oldest Postgres: 14.
select coalesce(pid::text, 'prepared') as pid, relation::regclass::text as table
  from pg_locks
 where locktype = 'relation' and granted and mode = 'AccessExclusiveLock'
   and database = (select oid from pg_database where datname = current_database())
   and relation >= 16384
 order by 1, 2
 limit 10
