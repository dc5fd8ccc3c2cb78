-- Tables that can be published: permanent ones of users, partitioned tables in place of their partitions.
-- Run by: init, run. Oldest Postgres: 14.
select n.nspname as schema, c.relname as table
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
 where c.relkind in ('r', 'p')
   and c.relpersistence = 'p'
   and not c.relispartition
   and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
 order by 1, 2
