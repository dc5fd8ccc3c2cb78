-- Tells all databases of the server that a gated slot is being made: shared, so that it never waits. The keys spell "ever" and "gate".
-- Run by: run. Oldest Postgres: 14.
select pg_advisory_lock_shared(x'65766572'::int, x'67617465'::int)
