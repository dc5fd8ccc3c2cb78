-- What a table is: its columns, its key, the file of its rows, and what is published of it. One text, and another one once it was altered.
-- Run by: run. Variables: table (its OID). Oldest Postgres: 14.
select concat_ws(' ', c.relnamespace, c.relname, c.relreplident, c.relfilenode,
         (select string_agg(concat(a.attnum, ':', a.xmin), ' ' order by a.attnum)
            from pg_attribute a where a.attrelid = c.oid and a.attnum > 0),
         (select string_agg(concat(i.indexrelid, ':', i.indkey), ' ' order by i.indexrelid)
            from pg_index i where i.indrelid = c.oid and (i.indisprimary or i.indisreplident)),
         (select string_agg(concat(p.oid, ':', p.xmin), ' ' order by p.oid)
            from pg_publication_rel p where p.prrelid = c.oid)) as shape
  from pg_class c
 where c.oid = :'table'::oid
