-- Ends what a backend of the same role is doing; a slot that it was making goes with it.
-- Run by: run (stopped while its slot waits). Variables: pid. Oldest Postgres: 14.
select pg_cancel_backend(:'pid'::int)
