-- The columns of a table's primary key: asked under REPLICA IDENTITY FULL, where the stream flags every column.
-- Run by: run. Variables: table (its OID). Oldest Postgres: 14.
select a.attname as name
  from pg_index i
  join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any ((i.indkey::int2[])[0:i.indnkeyatts - 1])
 where i.indrelid = :'table'::oid and i.indisprimary
 order by a.attnum
