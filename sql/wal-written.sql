-- The end of the WAL that is written, where everything that was seen before is in. Where the next record would begin behind the header of a
-- page, all that was written ends before that, and the walsender says so.
-- Run by: run. Oldest Postgres: 14.
select case when pg_is_in_recovery() then pg_last_wal_replay_lsn()
            else (select at - case when at_segment = 40 then 40
                                   when at_segment % current_setting('wal_block_size')::int = 24 then 24 else 0 end
                    from (select at, (pg_walfile_name_offset(at)).file_offset as at_segment
                            from (select pg_current_wal_insert_lsn() as at) insert) place) end as lsn
