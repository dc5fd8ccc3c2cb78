-- Creates a logical slot with Postgres' own output plugin. From then on the server keeps WAL for it.
-- Run by: init. Variables: slot. Oldest Postgres: 14.
select lsn from pg_create_logical_replication_slot(:'slot', 'pgoutput')
