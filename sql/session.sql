-- Lifts a limit on the time of a transaction, which only Postgres 17 and later have: a snapshot of a large table takes long.
-- Run by: every command that connects. Oldest Postgres: 14.
select set_config(name, '0', false) as transaction_timeout
  from pg_settings
 where name = 'transaction_timeout'
