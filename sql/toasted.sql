-- Whether any value of a table, or of its partitions, is out of line (TOAST).
-- Run by: run. Variables: table (its OID). Oldest Postgres: 14.
select coalesce(sum(pg_relation_size(c.reltoastrelid)), 0) > 0 as toasted
  from (select :'table'::oid as oid union select relid from pg_partition_tree(:'table'::oid) where isleaf) leaf
  join pg_class c on c.oid = leaf.oid
 where c.reltoastrelid <> 0
