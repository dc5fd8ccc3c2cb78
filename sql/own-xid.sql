-- Gives the session's transaction an id, so that the creation of a slot waits for it.
-- Run by: run. Oldest Postgres: 14.
select pg_current_xact_id()::xid as xid
