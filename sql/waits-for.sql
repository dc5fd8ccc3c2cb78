-- Whether a backend waits for the end of a transaction.
-- Run by: run. Variables: pid, xid. Oldest Postgres: 14.
select exists (select from pg_locks
                where locktype = 'transactionid' and pid = :'pid'::int and transactionid = :'xid'::xid and not granted) as waits
