-- Publishes the tables listed; needs to own them. Partitioned tables are published as one.
-- Run by: init, run. Variables: publication, tables (a list of quoted names). Oldest Postgres: 14.
create publication :"publication" for table :tables with (publish_via_partition_root = true)
