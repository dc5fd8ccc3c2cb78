-- What these tables and their partitions are: their columns, and the files that their rows are in. It gives one text under a snapshot and
-- another one now where a table was altered, rewritten, emptied, attached or dropped since. It waits for no lock on them.
-- Run by: run, snapshot, verify. Variables: tables (an array of OIDs). Oldest Postgres: 14.
with recursive member (oid) as (
  select unnest(:'tables'::oid[])
   union
  select c.oid from member m join pg_inherits i on i.inhparent = m.oid join pg_class c on c.oid = i.inhrelid and c.relispartition)
select coalesce(string_agg(concat_ws(' ', c.oid, c.relnamespace, c.relname, c.relreplident, c.relfilenode, columns.versions), ',' order by c.oid), '') as versions
  from member
  join pg_class c on c.oid = member.oid
 cross join lateral (
       select string_agg(concat(a.attnum, ':', a.xmin), ' ' order by a.attnum) as versions
         from pg_attribute a where a.attrelid = c.oid and a.attnum > 0) columns
