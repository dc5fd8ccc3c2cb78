-- What the stream does not say of a table: the columns of its primary key (under REPLICA IDENTITY FULL the stream flags every column;
-- null where the table is gone),
-- the names of its columns' types with their modifiers, and what types that are not built in are made of, down to those that are.
-- Types are looked up one by one (limit 1): otherwise all of a database with many tables, each of which is a type, are looked at for each.
-- Run by: run. Variables: table (its OID), types (a JSON array of [type OID, modifier]). Oldest Postgres: 14.
with recursive part (oid) as (
       select (value ->> 0)::oid from jsonb_array_elements(:'types'::jsonb)
        union
       select next.oid
         from part
        cross join lateral (select * from pg_type where oid = part.oid limit 1) t
        cross join lateral (
              select t.typbasetype as oid where t.typtype = 'd'
               union all
              select t.typelem where t.typsubscript = 'array_subscript_handler'::regproc
               union all
              select a.atttypid from pg_attribute a
               where t.typtype = 'c' and a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped) next)
select (select case when exists (select from pg_class where oid = :'table'::oid)
                    then coalesce(jsonb_agg(a.attname order by a.attnum), '[]') end
          from pg_index i
          join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any ((i.indkey::int2[])[0:i.indnkeyatts - 1])
         where i.indrelid = :'table'::oid and i.indisprimary) as primary_key,
       (select coalesce(jsonb_agg((select format_type(t.oid, (named.value ->> 1)::int)
                                     from pg_type t where t.oid = (named.value ->> 0)::oid)
                                  order by named.ordinality), '[]')
          from jsonb_array_elements(:'types'::jsonb) with ordinality named) as type_names,
       (select coalesce(jsonb_object_agg(part.oid, described.type), '{}')
          from part
         cross join lateral (
               select case when t.typtype = 'd' then jsonb_build_object('is', 'domain', 'base', t.typbasetype::bigint)
                           when t.typsubscript = 'array_subscript_handler'::regproc
                           then jsonb_build_object('is', 'array', 'element', t.typelem::bigint, 'delimiter', t.typdelim)
                           when t.typtype = 'c'
                           then jsonb_build_object('is', 'composite', 'dropped',
                                  exists (select from pg_attribute a where a.attrelid = t.typrelid and a.attisdropped), 'attributes',
                                  (select coalesce(jsonb_agg(jsonb_build_object('name', a.attname, 'typeOid', a.atttypid::bigint)
                                                             order by a.attnum), '[]')
                                     from pg_attribute a
                                    where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped))
                           when t.typname = 'hstore' and exists (
                                  select from pg_depend d join pg_extension e on e.oid = d.refobjid
                                   where d.classid = 'pg_type'::regclass and d.objid = t.oid and d.deptype = 'e'
                                     and d.refclassid = 'pg_extension'::regclass and e.extname = 'hstore')
                           then jsonb_build_object('is', 'hstore') end as type
                 from pg_type t
                where t.oid = part.oid
                limit 1) described
         where part.oid >= 10000 and described.type is not null) as types
