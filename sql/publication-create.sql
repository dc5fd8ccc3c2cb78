-- Publishes the tables listed, and not those that inherit from them; needs to own them, and CREATE on the database. Partitioned tables
-- are published as one.
-- Run by: init, run. Variables: publication, tables (`only "public"."cart", only "public"."orders"`). Oldest Postgres: 14.
create publication :"publication" for table :tables with (publish_via_partition_root = true)
