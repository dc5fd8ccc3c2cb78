-- One publication.
-- Run by: init, run, drop. Variables: publication. Oldest Postgres: 14.
select puballtables, pubviaroot, pubinsert, pubupdate, pubdelete, pubtruncate
  from pg_publication
 where pubname = :'publication'
