-- What a value is to be in an event, said by Postgres alone: casts and to_json, and not a line of evert.
create function oracle_date(d date) returns text language sql immutable return
  (select case when y between 0 and 9999 then lpad(y::text, 4, '0')
               else (case when y < 0 then '-' else '+' end) || lpad(abs(y)::text, greatest(6, length(abs(y)::text)), '0') end
          || '-' || lpad(extract(month from d)::text, 2, '0') || '-' || lpad(extract(day from d)::text, 2, '0')
     from (select case when extract(year from d) < 0 then extract(year from d)::int + 1 else extract(year from d)::int end) year (y));

create function oracle_timestamp(t timestamp) returns text language sql immutable return
  oracle_date(t::date) || to_char(t, '"T"HH24:MI:SS')
  || case when to_char(t, 'US') = '000000' then '' else '.' || rtrim(to_char(t, 'US'), '0') end;

create function oracle_array(value json, element regtype) returns text language plpgsql as $$
begin
  if value is null or json_typeof(value) = 'null' then return 'null'; end if;
  if json_typeof(value) = 'array' then
    return '[' || coalesce((select string_agg(oracle_array(item, element), ',' order by place)
                              from json_array_elements(value) with ordinality list (item, place)), '') || ']';
  end if;
  return oracle(value #>> '{}', element);
end $$;

create function oracle(value text, type regtype) returns text language plpgsql as $$
declare
  kind record;
  part record;
  field text;
  answer text;
  items json;
begin
  if value is null then return 'null'; end if;
  case type::oid
    when 16 then return value::bool::text;
    when 20, 21, 23, 26 then return value;
    when 700, 701 then return case when value ~ '[aI]' then to_json(value)::text else value end;
    when 17 then return to_json(translate(encode(value::bytea, 'base64'), E'\n', ''))::text;
    when 790 then return to_json(value::money::numeric::text)::text;
    when 1082 then return to_json(case when isfinite(value::date) then oracle_date(value::date) else value end)::text;
    when 1114 then
      return to_json(case when isfinite(value::timestamp) then oracle_timestamp(value::timestamp) else value end)::text;
    when 1184 then
      return to_json(case when isfinite(value::timestamptz) then oracle_timestamp(value::timestamptz at time zone 'UTC') || 'Z'
                          else value end)::text;
    else null;
  end case;
  if type::oid < 10000 and type::text not like '%[]' then return to_json(value)::text; end if;
  select typtype, typbasetype, typelem, typrelid, typname, typsubscript into kind from pg_type where oid = type;
  if kind.typtype = 'd' then return oracle(value, kind.typbasetype::regtype); end if;
  if kind.typsubscript = 'array_subscript_handler'::regproc then
    -- An array's text is that of an array of texts, but for box, whose elements a semicolon parts.
    execute format(case when kind.typelem = 603 then 'select array_to_json(%L::box[]::text[])' else 'select array_to_json(%L::text[])' end, value)
       into items;
    return oracle_array(items, kind.typelem::regtype);
  end if;
  if kind.typtype = 'c' then
    answer := '';
    for part in select attname, atttypid from pg_attribute where attrelid = kind.typrelid and attnum > 0 and not attisdropped order by attnum
    loop
      execute format('select case when (v).%1$I is not null or (v).%1$I::text is not null then format(''%%s'', (v).%1$I) end from (select %2$L::%3$s) row (v)', part.attname, value, type) into field;
      answer := answer || case when answer = '' then '' else ',' end || to_json(part.attname::text) || ':' || oracle(field, part.atttypid::regtype);
    end loop;
    return '{' || answer || '}';
  end if;
  if kind.typname = 'hstore' then
    execute format('select string_agg(to_json(key) || '':'' || coalesce(to_json(value)::text, ''null''), '','') from each(%L::%s)', value, type)
       into answer;
    return '{' || coalesce(answer, '') || '}';
  end if;
  return to_json(value)::text;
end $$;
