-- Creates a logical slot with Postgres' own output plugin, of which a standby that syncs slots keeps a copy. From then on the server
-- keeps WAL for it.
-- Run by: init. Variables: slot. Oldest Postgres: 17.
select lsn from pg_create_logical_replication_slot(:'slot', 'pgoutput', failover => true)
