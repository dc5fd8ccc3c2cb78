-- The tables of a publication, and whether that has every table of the database from its first row on.
-- Run by: run. Variables: publication. Oldest Postgres: 14.
select c.oid, n.nspname as schema, c.relname as table, p.puballtables as all_tables
  from pg_publication p
  join pg_publication_tables published using (pubname)
  join pg_namespace n on n.nspname = published.schemaname
  join pg_class c on c.relnamespace = n.oid and c.relname = published.tablename
 where p.pubname = :'publication'
