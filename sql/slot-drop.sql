-- Drops a replication slot that nobody uses.
-- Run by: drop. Variables: slot. Oldest Postgres: 14.
select pg_drop_replication_slot(:'slot')
