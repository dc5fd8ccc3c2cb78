-- The tables of a publication with the columns that are in its stream. A column is `key` where the event's key has it: of the
-- primary key or the replica identity's index; under REPLICA IDENTITY FULL of the primary key; under NOTHING none is.
-- Generated columns are in the stream only from Postgres 18 on, and there only when the publication says so.
-- `blocks` is the length of its longest heap, null where something of it is not in a heap, or its ctid may not be read: who may read
-- only some columns may read none that the system has.
-- `obstacle` is what keeps the role from reading all rows: no right on the schema, none on the table, or row-level security.
-- What is stored is looked up one by one (limit 1): otherwise all of a database's relations are looked at for each.
-- Run by: init, run. Variables: publication, oid (of one table, or 0 for all of them). Oldest Postgres: 14.
select c.oid, p.schemaname as schema, p.tablename as table, c.relkind, c.relreplident,
       to_jsonb(p) ->> 'rowfilter' as row_filter,
       size.estimated_rows, size.bytes, size.heap_bytes, size.blocks,
       case when not has_schema_privilege(n.oid, 'usage') then 'schema'
            when not has_table_privilege(c.oid, 'select')
                 and (published.refused or to_jsonb(p) ->> 'rowfilter' is not null) then 'table'
            when row_security_active(c.oid) then 'rows' end as obstacle,
       exists (select from pg_index i where i.indrelid = c.oid
                  and case c.relreplident when 'i' then i.indisreplident when 'd' then i.indisprimary and i.indimmediate else false end)
         or c.relreplident = 'f' as identifiable,
       published.columns
  from pg_publication_tables p
  join pg_namespace n on n.nspname = p.schemaname
  join pg_class c on c.relnamespace = n.oid and c.relname = p.tablename
 cross join lateral (
       select jsonb_agg(jsonb_build_object(
                'name', a.attname, 'typeOid', a.atttypid::bigint, 'typeModifier', a.atttypmod,
                'key', exists (select from pg_index i
                                where i.indrelid = c.oid and a.attnum = any ((i.indkey::int2[])[0:i.indnkeyatts - 1])
                                  and case c.relreplident when 'i' then i.indisreplident when 'd' then i.indisprimary and i.indimmediate
                                                          when 'f' then i.indisprimary else false end))
                order by a.attnum) as columns,
              coalesce(bool_or(not has_column_privilege(c.oid, a.attnum, 'select')), true) as refused
         from pg_attribute a
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
          and (a.attgenerated = '' or current_setting('server_version_num')::int >= 180000)
          and (to_jsonb(p) -> 'attnames' is null or to_jsonb(p) -> 'attnames' ? a.attname)) published
 cross join lateral (
       select coalesce(sum(greatest(stored.reltuples, 0)), 0)::bigint as estimated_rows,
              coalesce(sum(pg_table_size(stored.oid)), 0) as bytes,
              coalesce(sum(pg_relation_size(stored.oid)), 0) as heap_bytes,
              case when bool_and(coalesce(method.amname = 'heap', false)) and has_table_privilege(c.oid, 'select')
                   then max(pg_relation_size(stored.oid)) / current_setting('block_size')::int end as blocks
         from (select c.oid where c.relkind = 'r' union select relid from pg_partition_tree(c.oid) where isleaf) leaf
        cross join lateral (select * from pg_class where pg_class.oid = leaf.oid limit 1) stored
         left join pg_am method on method.oid = stored.relam) size
 where p.pubname = :'publication' and :'oid'::oid in (0, c.oid)
 order by 2, 3
