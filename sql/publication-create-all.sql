-- Publishes every table there is and will be; needs a superuser.
-- Run by: init, run. Variables: publication. Oldest Postgres: 14.
create publication :"publication" for all tables with (publish_via_partition_root = true)
