-- How much WAL the server has written a second, on average since its statistics were reset.
-- Run by: run, snapshot. Oldest Postgres: 14.
select round(wal_bytes / greatest(extract(epoch from clock_timestamp() - coalesce(stats_reset, pg_postmaster_start_time())), 1)) as bytes_a_second from pg_stat_wal
