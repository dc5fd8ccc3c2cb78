-- What evert must know of a server before it replicates from it.
-- Run by: init, run. Oldest Postgres: 14.
select current_setting('server_version_num') as version,
       current_setting('wal_level') as wal_level,
       (select setting from pg_settings where name = 'wal_sender_timeout') as wal_sender_timeout_ms,
       (select nullif(setting, '-1')::bigint * 1024 * 1024 from pg_settings where name = 'max_slot_wal_keep_size') as slot_wal_keep_bytes,
       current_setting('max_replication_slots') as slots_max,
       (select count(*) from pg_replication_slots) as slots_used,
       current_setting('max_wal_senders') as wal_senders_max,
       (select count(*) from pg_stat_replication) as wal_senders_used,
       (select pg_encoding_to_char(encoding) from pg_database where datname = current_database()) as encoding,
       pg_is_in_recovery() as in_recovery,
       coalesce((select rolsuper from pg_roles where rolname = current_user), false) as superuser,
       coalesce((select rolreplication from pg_roles where rolname = current_user), false)
         or exists (select from pg_roles r
                     where r.rolname in ('rds_replication', 'rds_superuser') and pg_has_role(current_user, r.oid, 'member')) as replication,
       current_user as role
