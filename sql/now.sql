-- The time of the transaction, by the clock of the server, in microseconds since 1970.
-- Run by: run. Oldest Postgres: 14.
select (extract(epoch from now()) * 1000000)::bigint as us
