-- The state of one replication slot, and how far the server has gone on since; columns that an older server lacks are null.
-- Run by: init, run, drop. Variables: slot. Oldest Postgres: 14.
select s.slot_name, s.plugin, s.database, s.active, s.active_pid, s.temporary, s.wal_status,
       s.restart_lsn, s.confirmed_flush_lsn,
       case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end - s.confirmed_flush_lsn as lag_bytes,
       to_jsonb(s) ->> 'invalidation_reason' as invalidation_reason,
       to_jsonb(s) ->> 'conflicting' as conflicting
  from pg_replication_slots s
 where s.slot_name = :'slot'
