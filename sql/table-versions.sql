-- What these tables and their partitions are: their columns, and the files that their rows are in. It gives one text under a snapshot and
-- another one now where a table was altered, rewritten, emptied or dropped since.
-- Run by: run. Variables: tables (an array of OIDs). Oldest Postgres: 14.
select coalesce(string_agg(concat_ws(' ', c.oid, c.relnamespace, c.relname, c.relreplident, c.relfilenode, columns.versions), ',' order by c.oid), '') as versions
  from (select distinct member.oid
          from unnest(:'tables'::oid[]) published(oid)
         cross join lateral (select published.oid union select relid from pg_partition_tree(published.oid)) member(oid)) member
  join pg_class c on c.oid = member.oid
 cross join lateral (
       select string_agg(concat(a.attnum, ':', a.xmin), ' ' order by a.attnum) as versions
         from pg_attribute a where a.attrelid = c.oid and a.attnum > 0) columns
