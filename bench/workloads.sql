-- The tables of the benchmarks and what fills them: rows are made once, so that loading is quick and every run drains the same WAL.
create table narrow (id bigint primary key, a int, b text, ts timestamptz);
create table wide (
  id bigint primary key, i1 int, i2 int, i3 bigint, s1 smallint, f1 float8, f2 float4, n1 numeric(18,4), n2 numeric(12,2),
  t1 text, t2 varchar(64), t3 text, t4 text, j1 jsonb, j2 jsonb, ts1 timestamptz, ts2 timestamp, d1 date, b1 boolean, u1 uuid
);

create unlogged table wide_source as
select g::bigint as k, (g * 7919) % 100000 as i1, g as i2, g::bigint * 1000003 as i3, (g % 30000)::smallint as s1,
       sqrt(g)::float8 as f1, (g / 7.0)::float4 as f2, (g * 1.2345)::numeric(18,4) as n1, (g % 10000 / 3.0)::numeric(12,2) as n2,
       substr(md5(g::text) || md5((g + 1)::text), 1, 60) as t1, substr(md5((g + 2)::text), 1, 24) as t2,
       'Note ' || g || ' for the customer: leave it at the door, ring twice, and wait for a while. Ref ' || substr(md5((g + 3)::text), 1, 20) as t3,
       case g % 10 when 0 then 'say "hi" \ naïve café ' || g when 1 then E'line one\nline two ' || g else 'plain text ' || g end as t4,
       jsonb_build_object('sku', 'A-' || g, 'qty', g % 17, 'price', (g % 1000) / 10.0, 'tags', jsonb_build_array('x', 'y', g % 5)) as j1,
       jsonb_build_object('v', g % 3) as j2,
       '2026-01-01'::timestamptz + g * interval '1.000001 second' as ts1, '2026-01-01'::timestamp + g * interval '1 minute' as ts2,
       '2020-01-01'::date + (g % 2000) as d1, g % 2 = 0 as b1, md5(g::text)::uuid as u1
  from generate_series(1, 10000) g;
create index on wide_source (k);

-- At a rate, in rows a second; null for as fast as it can.
create procedure fill_narrow(total bigint, per int, rate int default null) language plpgsql as $$
declare
  began timestamptz := clock_timestamp();
begin
  for i in 0 .. total / per - 1 loop
    insert into narrow
    select g, (g % 1000000)::int, substr(md5(g::text), 1, 16), '2026-01-01'::timestamptz + g * interval '1.000001 second'
      from generate_series(i * per, i * per + per - 1) g;
    commit;
    if rate is not null then
      perform pg_sleep_until(began + (i + 1) * per * interval '1 second' / rate);
    end if;
  end loop;
end $$;

create procedure fill_wide(total bigint, per int) language plpgsql as $$
begin
  for i in 0 .. total / per - 1 loop
    insert into wide
    select i * per + row_number() over (), i1, i2, i3, s1, f1, f2, n1, n2, t1, t2, t3, t4, j1, j2, ts1, ts2, d1, b1, u1
      from wide_source where k > (i * per) % 10000 and k <= (i * per) % 10000 + per;
    commit;
  end loop;
end $$;

-- A statement over the rows in order of their key, so many a transaction.
create procedure change_narrow(total bigint, per int, statement text) language plpgsql as $$
begin
  for i in 0 .. total / per - 1 loop
    execute format('%s where id between %s and %s', statement, i * per, i * per + per - 1);
    commit;
  end loop;
end $$;

-- Too short to be stored apart, too random to be compressed.
create table long (id bigint primary key, t text);
alter table long alter t set storage plain;
create procedure fill_long(total bigint, per int, first bigint default 0) language plpgsql as $$
begin
  for i in 0 .. total / per - 1 loop
    insert into long
    select g, (select string_agg(md5(g::text || n), '') from generate_series(1, 50) n)
      from generate_series(first + i * per, first + i * per + per - 1) g;
    commit;
  end loop;
end $$;

-- Transactions of 120 changes: 60 narrow rows inserted, 30 updated, 5 deleted, 20 wide ones, 5 long ones.
create procedure fill_mix(transactions int) language plpgsql as $$
declare
  first bigint;
begin
  for i in 0 .. transactions - 1 loop
    first := i * 60;
    insert into narrow select g, g::int, substr(md5(g::text), 1, 16), now() from generate_series(first, first + 59) g;
    update narrow set a = a + 1 where id between first and first + 29;
    delete from narrow where id between first + 30 and first + 34;
    insert into wide
    select i * 20 + row_number() over (), i1, i2, i3, s1, f1, f2, n1, n2, t1, t2, t3, t4, j1, j2, ts1, ts2, d1, b1, u1
      from wide_source s where s.k > (i * 20) % 10000 and s.k <= (i * 20) % 10000 + 20;
    insert into long select i * 5 + g, (select string_agg(md5(g::text || n), '') from generate_series(1, 50) n) from generate_series(0, 4) g;
    commit;
  end loop;
end $$;

create publication bench for table narrow, wide, long;
