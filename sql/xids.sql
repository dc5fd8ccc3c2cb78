-- Which transactions a snapshot sees, and the next transaction id: what is below it, and not seen, is under way.
-- age() counts from the next id where its own transaction has none. On a standby a snapshot does not say what is under way.
-- Run by: run. Oldest Postgres: 14.
select pg_current_snapshot()::text as snapshot, age('3'::xid)::bigint + 3 as next_xid, pg_is_in_recovery() as standby
