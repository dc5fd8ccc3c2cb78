-- The key columns of a table in the order of its index, by which chunks are read: the replica identity index, or the primary key; the type
-- and collation of each. And what compares them as that index does, where it is not an operator that every session finds: with types of extensions.
-- Run by: run. Variables: table (its OID). Oldest Postgres: 14.
select coalesce(jsonb_agg(a.attname order by k.ordinality), '[]') as columns,
       coalesce(jsonb_agg(format('%s %s', a.atttypid, a.attcollation) order by k.ordinality), '[]') as types,
       coalesce(jsonb_agg(case when n.nspname <> 'pg_catalog' then format('operator(%I.%s)', n.nspname, o.oprname) end
                          order by k.ordinality), '[]') as operators
  from (select i.indrelid, i.indkey, i.indclass, i.indnkeyatts
          from pg_index i
         where i.indrelid = :'table'::oid and i.indisvalid and (i.indisreplident or i.indisprimary)
         order by i.indisreplident desc
         limit 1) index
 cross join lateral unnest((index.indkey::int2[])[0:index.indnkeyatts - 1], (index.indclass::oid[])[0:index.indnkeyatts - 1])
       with ordinality k (attnum, class, ordinality)
  join pg_attribute a on a.attrelid = index.indrelid and a.attnum = k.attnum
  join pg_opclass c on c.oid = k.class
  join pg_amop m on m.amopfamily = c.opcfamily and m.amoplefttype = c.opcintype and m.amoprighttype = c.opcintype and m.amopstrategy = 5
  join pg_operator o on o.oid = m.amopopr
  join pg_namespace n on n.oid = o.oprnamespace
