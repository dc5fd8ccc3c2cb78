-- Drops a publication. Slots that still read it stop with an error.
-- Run by: drop. Variables: publication. Oldest Postgres: 14.
drop publication if exists :"publication"
