/**
 * Events, case by case: what is done to a database while evert is not running, and what it then reads from the backlog.
 *
 * Each case has a schema of its own. A line is an event: operation, key, `before -> after`, what is absent, headers; `-` is a tombstone.
 * The table is named where it is not `item`, and so is the shape where it is told anew.
 */
export interface EventCase {
  readonly title: string
  /** Oldest major that has what it takes. */
  readonly since?: number
  /** Before evert's first start: in its snapshot. */
  readonly setup: string
  /** While evert is stopped; each is a transaction. */
  readonly statements: readonly string[]
  readonly events: readonly string[]
}

export const EVENT_CASES: readonly EventCase[] = [
  // Keys and identity
  {
    title: 'a primary key: insert, update, delete',
    setup: `create table item (id int primary key, n int); insert into item values (1, 1)`,
    statements: [
      `insert into item values (2, 2)`,
      `update item set n = 3 where id = 2`,
      `delete from item where id = 1`,
    ],
    events: [
      'r {"id":1}: null -> {"id":1,"n":1}',
      'c {"id":2}: null -> {"id":2,"n":2}',
      'u {"id":2}: null -> {"id":2,"n":3}',
      'd {"id":1}: {"id":1} -> null',
      '- {"id":1}',
    ],
  },
  {
    title: "a composite key, in the table's column order, whatever the order of its index",
    setup: `create table item (b text, n int, a int, primary key (a, b))`,
    statements: [`insert into item values ('x', 1, 2)`, `delete from item`],
    events: [
      'c {"b":"x","a":2}: null -> {"b":"x","n":1,"a":2}',
      'd {"b":"x","a":2}: {"b":"x","a":2} -> null',
      '- {"b":"x","a":2}',
    ],
  },
  {
    title: 'a changed key: delete and tombstone under the old one, insert under the new one',
    setup: `create table item (id int primary key, n int); insert into item values (1, 1)`,
    statements: [`update item set id = 2, n = 5`],
    events: [
      'r {"id":1}: null -> {"id":1,"n":1}',
      'd {"id":1}: {"id":1} -> null evert.newkey={"id":2}',
      '- {"id":1}',
      'c {"id":2}: null -> {"id":2,"n":5} evert.oldkey={"id":1}',
    ],
  },
  {
    title: 'two keys swapped in one statement',
    setup: `create table item (id int primary key deferrable initially deferred, n int); alter table item replica identity full;
      insert into item values (1, 1), (2, 2)`,
    statements: [`update item set id = 3 - id`],
    events: [
      'r {"id":1}: null -> {"id":1,"n":1}',
      'r {"id":2}: null -> {"id":2,"n":2}',
      'd {"id":1}: {"id":1,"n":1} -> null evert.newkey={"id":2}',
      '- {"id":1}',
      'c {"id":2}: null -> {"id":2,"n":1} evert.oldkey={"id":1}',
      'd {"id":2}: {"id":2,"n":2} -> null evert.newkey={"id":1}',
      '- {"id":2}',
      'c {"id":1}: null -> {"id":1,"n":2} evert.oldkey={"id":2}',
    ],
  },
  {
    title: 'a replica identity index',
    setup: `create table item (id int primary key, code text not null unique, n int); alter table item replica identity using index item_code_key`,
    statements: [
      `insert into item values (1, 'a', 1)`,
      `update item set id = 2`,
      `update item set code = 'b'`,
      `delete from item`,
    ],
    events: [
      'c {"code":"a"}: null -> {"id":1,"code":"a","n":1}',
      'u {"code":"a"}: null -> {"id":2,"code":"a","n":1}',
      'd {"code":"a"}: {"code":"a"} -> null evert.newkey={"code":"b"}',
      '- {"code":"a"}',
      'c {"code":"b"}: null -> {"id":2,"code":"b","n":1} evert.oldkey={"code":"a"}',
      'd {"code":"b"}: {"code":"b"} -> null',
      '- {"code":"b"}',
    ],
  },
  {
    title: 'REPLICA IDENTITY FULL with a primary key',
    setup: `create table item (id int primary key, n int); alter table item replica identity full`,
    statements: [`insert into item values (1, 1)`, `update item set n = null`, `delete from item`],
    events: [
      'c {"id":1}: null -> {"id":1,"n":1}',
      'u {"id":1}: {"id":1,"n":1} -> {"id":1,"n":null}',
      'd {"id":1}: {"id":1,"n":null} -> null',
      '- {"id":1}',
    ],
  },
  {
    title: 'REPLICA IDENTITY FULL without a primary key: no key, and no tombstone',
    setup: `create table item (a int, b text); alter table item replica identity full`,
    statements: [
      `insert into item values (1, 'x'), (1, 'x')`,
      `update item set a = 2 where ctid = '(0,1)'`,
      `delete from item where a = 1`,
    ],
    events: [
      'c null: null -> {"a":1,"b":"x"}',
      'c null: null -> {"a":1,"b":"x"}',
      'u null: {"a":1,"b":"x"} -> {"a":2,"b":"x"}',
      'd null: {"a":1,"b":"x"} -> null',
    ],
  },
  {
    title: 'REPLICA IDENTITY NOTHING, and a table without any key: inserts only',
    setup: `create table item (id int primary key); alter table item replica identity nothing; create table heap (n int)`,
    statements: [`insert into item values (1)`, `insert into heap values (7)`],
    events: ['heap c null: null -> {"n":7}', 'c null: null -> {"id":1}'],
  },
  {
    title: 'a primary key added, renamed, extended and dropped: the key is what it was at that point',
    setup: `create table item (id int not null, n int not null)`,
    statements: [
      `insert into item values (1, 1)`,
      `alter table item add primary key (id)`,
      `insert into item values (2, 2)`,
      `alter table item rename id to code`,
      `insert into item values (3, 3)`,
      `alter table item drop constraint item_pkey, add primary key (code, n)`,
      `insert into item values (4, 4)`,
      `alter table item drop constraint item_pkey`,
      `insert into item values (5, 5)`,
    ],
    events: [
      'c null: null -> {"id":1,"n":1}',
      'c {"id":2}: null -> {"id":2,"n":2}',
      'c {"code":3}: null -> {"code":3,"n":3}',
      'c {"code":4,"n":4}: null -> {"code":4,"n":4}',
      'c null: null -> {"code":5,"n":5}',
    ],
  },
  {
    title: 'REPLICA IDENTITY switched between two transactions',
    setup: `create table item (id int primary key, n int); insert into item values (1, 1)`,
    statements: [
      `update item set n = 2`,
      `alter table item replica identity full`,
      `update item set n = 3`,
      `alter table item replica identity default`,
      `update item set n = 4`,
    ],
    events: [
      'r {"id":1}: null -> {"id":1,"n":1}',
      'u {"id":1}: null -> {"id":1,"n":2}',
      'u {"id":1}: {"id":1,"n":2} -> {"id":1,"n":3}',
      'u {"id":1}: null -> {"id":1,"n":4}',
    ],
  },
  {
    title: 'partitions, each a table of its own where the publication does not say otherwise; a row that moves',
    setup: `create table item (id int primary key, n int) partition by range (id);
      create table low partition of item for values from (0) to (10); create table high partition of item for values from (10) to (20);
      insert into item values (1, 1)`,
    statements: [`insert into item values (11, 1)`, `update item set id = 12 where id = 1`],
    events: [
      'high c {"id":11}: null -> {"id":11,"n":1}',
      'high c {"id":12}: null -> {"id":12,"n":1}',
      'low r {"id":1}: null -> {"id":1,"n":1}',
      'low d {"id":1}: {"id":1} -> null',
      'low - {"id":1}',
    ],
  },
  {
    title: 'inheritance: each table its own rows',
    setup: `create table item (id int primary key); create table child (extra text, primary key (id)) inherits (item);
      insert into item values (1); insert into child values (2, 'x')`,
    statements: [`insert into child values (3, 'y')`, `update item set id = id + 10 where id = 3`],
    events: [
      'child r {"id":2}: null -> {"id":2,"extra":"x"}',
      'child c {"id":3}: null -> {"id":3,"extra":"y"}',
      'child d {"id":3}: {"id":3} -> null evert.newkey={"id":13}',
      'child - {"id":3}',
      'child c {"id":13}: null -> {"id":13,"extra":"y"} evert.oldkey={"id":3}',
      'r {"id":1}: null -> {"id":1}',
    ],
  },
  // Schema changes in the stream
  {
    title: 'columns added, with and without default, dropped, renamed, retyped',
    setup: `create table item (id int primary key, a int, b text); insert into item values (1, 1, 'x')`,
    statements: [
      `alter table item add column c int`,
      `insert into item values (2, 2, 'y', 3)`,
      `alter table item add column d text default 'dee'`,
      `update item set a = 5 where id = 1`,
      `alter table item drop column b`,
      `insert into item values (3, 3, 4, 'd')`,
      `alter table item rename column c to e`,
      `insert into item values (4, 4, 5, 'd')`,
      `alter table item alter column e type text using 'was ' || e, alter column a set default 9`,
      `insert into item (id, e) values (5, 'text')`,
    ],
    events: [
      'r {"id":1}: null -> {"id":1,"a":1,"b":"x"}',
      'c {"id":2}: null -> {"id":2,"a":2,"b":"y","c":3}',
      'u {"id":1}: null -> {"id":1,"a":5,"b":"x","c":null,"d":"dee"}',
      'c {"id":3}: null -> {"id":3,"a":3,"c":4,"d":"d"}',
      'c {"id":4}: null -> {"id":4,"a":4,"e":5,"d":"d"}',
      'c {"id":5}: null -> {"id":5,"a":9,"e":"text","d":"dee"}',
    ],
  },
  {
    title: 'a table renamed: from then on under its new name',
    setup: `create table item (id int primary key)`,
    statements: [`insert into item values (1)`, `alter table item rename to thing`, `insert into thing values (2)`],
    events: ['c {"id":1}: null -> {"id":1}', 'thing c {"id":2}: null -> {"id":2}'],
  },
  {
    title: 'a table dropped and made again with the same name and another shape',
    setup: `create table item (id int primary key, n int); insert into item values (1, 1)`,
    statements: [
      `update item set n = 2`,
      `drop table item`,
      `create table item (code text primary key)`,
      `insert into item values ('x')`,
    ],
    events: [
      'r {"id":1}: null -> {"id":1,"n":1}',
      'u {"id":1}: null -> {"id":1,"n":2}',
      'c {"code":"x"}: null -> {"code":"x"}',
    ],
  },
  {
    title: 'a table that lived and died in the backlog',
    setup: `create table item (id int primary key)`,
    statements: [
      `create table brief (id int primary key, mood text); create domain even as int check (value % 2 = 0);
       create table domains (id even primary key)`,
      `insert into brief values (1, 'x'); insert into domains values (2)`,
      `drop table brief; drop table domains; drop domain even`,
    ],
    // The type is gone as well: what its domain was of cannot be asked any more, so its value is text.
    events: ['brief c {"id":1}: null -> {"id":1,"mood":"x"}', 'domains c {"id":"2"}: null -> {"id":"2"}'],
  },
  {
    title: 'an enum whose values were added and renamed',
    setup: `create type mood as enum ('sad', 'happy'); create table item (id int primary key, m mood, all_of mood[]);
      insert into item values (1, 'sad', '{sad,happy}')`,
    statements: [
      `alter type mood add value 'so so'`,
      `insert into item values (2, 'so so', '{so so}')`,
      `alter type mood rename value 'sad' to 'blue'`,
      `insert into item values (3, 'blue', null)`,
    ],
    events: [
      'r {"id":1}: null -> {"id":1,"m":"sad","all_of":["sad","happy"]}',
      'c {"id":2}: null -> {"id":2,"m":"so so","all_of":["so so"]}',
      'c {"id":3}: null -> {"id":3,"m":"blue","all_of":null}',
    ],
  },
  {
    title: 'a composite type to which an attribute was added',
    setup: `create type pair as (a int, b text); create table item (id int primary key, p pair, ps pair[]);
      insert into item values (1, '(1,x)', '{"(2,y)"}')`,
    statements: [
      `insert into item values (2, '(3,)', null)`,
      `alter type pair add attribute c boolean`,
      `insert into item values (3, '(4,z,t)', '{"(5,w,)"}')`,
      `update item set id = 4 where id = 3`,
    ],
    events: [
      'r {"id":1}: null -> {"id":1,"p":{"a":1,"b":"x"},"ps":[{"a":2,"b":"y"}]}',
      'c {"id":2}: null -> {"id":2,"p":{"a":3,"b":null},"ps":null}',
      'c {"id":3}: null -> {"id":3,"p":{"a":4,"b":"z","c":true},"ps":[{"a":5,"b":"w","c":null}]}',
      'd {"id":3}: {"id":3} -> null evert.newkey={"id":4}',
      '- {"id":3}',
      'c {"id":4}: null -> {"id":4,"p":{"a":4,"b":"z","c":true},"ps":[{"a":5,"b":"w","c":null}]} evert.oldkey={"id":3}',
    ],
  },
  {
    title: 'a composite type whose attribute was dropped: older values have it',
    setup: `create type trio as (a int, b int, c int); create table item (id int primary key, t trio)`,
    statements: [
      `insert into item values (1, '(1,2,3)')`,
      `alter type trio drop attribute b`,
      `insert into item values (2, '(1,3)')`,
    ],
    events: ['c {"id":1}: null -> {"id":1,"t":{"a":1,"b":2,"c":3}}', 'c {"id":2}: null -> {"id":2,"t":{"a":1,"c":3}}'],
  },
  {
    title: 'the same, first seen afterwards: values that nobody can name any more are Postgres text',
    setup: `create type trio as (a int, b int, c int)`,
    statements: [
      `create table item (id int primary key, t trio); insert into item values (1, '(1,2,3)')`,
      `alter type trio drop attribute b`,
      `insert into item values (2, '(1,3)')`,
    ],
    events: ['c {"id":1}: null -> {"id":1,"t":"(1,2,3)"}', 'c {"id":2}: null -> {"id":2,"t":{"a":1,"c":3}}'],
  },
  {
    title: 'a composite type first seen after an attribute was added: older values have fewer',
    setup: `create type pair as (a int, b text)`,
    statements: [
      `create table item (id int primary key, p pair); insert into item values (1, '(1,x)')`,
      `alter type pair add attribute c int`,
      `insert into item values (2, '(2,y,3)')`,
    ],
    events: [
      'c {"id":1}: null -> {"id":1,"p":{"a":1,"b":"x"}}',
      'c {"id":2}: null -> {"id":2,"p":{"a":2,"b":"y","c":3}}',
    ],
  },
  // Everything else that pgoutput says
  {
    title: 'TRUNCATE of one and of several tables, with CASCADE and RESTART IDENTITY',
    setup: `create table item (id serial primary key); create table part (id int primary key, item int references item);
      create table other (n int); insert into item values (1)`,
    statements: [`truncate item restart identity cascade`, `truncate other, part`, `insert into item default values`],
    events: [
      'r {"id":1}: null -> {"id":1}',
      't {}: null -> null',
      'c {"id":1}: null -> {"id":1}',
      'other t null: null -> null',
      'part t {}: null -> null',
      'part t {}: null -> null',
    ],
  },
  {
    title: 'savepoints rolled back, a transaction rolled back, an empty one',
    setup: `create table item (id int primary key)`,
    statements: [
      `begin; insert into item values (1); savepoint a; insert into item values (2); rollback to a; insert into item values (3); commit`,
      `begin; insert into item values (4); rollback`,
      `begin; commit`,
    ],
    events: ['c {"id":1}: null -> {"id":1}', 'c {"id":3}: null -> {"id":3}'],
  },
  {
    title: 'a prepared transaction: when it is committed, and not where it is rolled back',
    setup: `create table item (id int primary key)`,
    statements: [
      `begin; insert into item values (1); prepare transaction 'kept'`,
      `begin; insert into item values (2); prepare transaction 'lost'`,
      `insert into item values (3)`,
      `rollback prepared 'lost'`,
      `commit prepared 'kept'`,
    ],
    events: ['c {"id":3}: null -> {"id":3}', 'c {"id":1}: null -> {"id":1}'],
  },
  {
    title: 'an unchanged large value is absent and named; under FULL it is taken from the old row',
    setup: `create table item (id int primary key, n int, wide text); alter table item alter wide set storage external;
      insert into item values (1, 1, repeat('w', 9000))`,
    statements: [
      `update item set n = 2`,
      `update item set id = 2`,
      `alter table item replica identity full`,
      `update item set n = 3`,
      `update item set wide = 'short'`,
    ],
    events: [
      'r {"id":1}: null -> {"id":1,"n":1,"wide":"w*9000"}',
      'u {"id":1}: null -> {"id":1,"n":2} unchanged=["wide"]',
      'd {"id":1}: {"id":1} -> null evert.newkey={"id":2}',
      '- {"id":1}',
      'c {"id":2}: null -> {"id":2,"n":2} unchanged=["wide"] evert.oldkey={"id":1}',
      'u {"id":2}: {"id":2,"n":2,"wide":"w*9000"} -> {"id":2,"n":3,"wide":"w*9000"}',
      'u {"id":2}: {"id":2,"n":3,"wide":"w*9000"} -> {"id":2,"n":3,"wide":"short"}',
    ],
  },
  {
    title: 'a table without columns',
    setup: `create table item (); insert into item default values`,
    statements: [`insert into item default values`],
    events: ['r null: null -> {}', 'c null: null -> {}'],
  },
  {
    title: 'identifiers: quoted, of several bytes a letter, different only in case, with what a topic name cannot hold',
    setup: `create table "Item" ("Id" int primary key, "q""uote" text, "Ünïcode 東京" int, "back\\slash" int)`,
    statements: [
      `insert into "Item" values (1, 'x', 2, 3)`,
      `create table item (id int primary key); create table "item.x" (id int primary key); create table "a__b" (id int primary key);
       create table "_" (id int primary key); create table "tab/le" (id int primary key)`,
      `insert into item values (1); insert into "item.x" values (2); insert into "a__b" values (3); insert into "_" values (4);
       insert into "tab/le" values (5)`,
    ],
    events: [
      'Item c {"Id":1}: null -> {"Id":1,"q\\"uote":"x","Ünïcode 東京":2,"back\\\\slash":3}',
      '__5f c {"id":4}: null -> {"id":4}',
      'a__5f_b c {"id":3}: null -> {"id":3}',
      'c {"id":1}: null -> {"id":1}',
      'item__2ex c {"id":2}: null -> {"id":2}',
      'tab__2fle c {"id":5}: null -> {"id":5}',
    ],
  },
  {
    title: 'unlogged and temporary tables are not in the WAL, and so not in the log',
    setup: `create table item (id int primary key); create unlogged table fast (id int primary key)`,
    statements: [
      `insert into fast values (1); create temporary table gone (id int); insert into gone values (1); insert into item values (1)`,
    ],
    events: ['c {"id":1}: null -> {"id":1}'],
  },
  {
    title: 'generated columns are in neither snapshot nor stream',
    setup: `create table item (id int primary key, n int, twice int generated always as (n * 2) stored); insert into item values (1, 1)`,
    statements: [`insert into item values (2, 2)`, `update item set n = 3 where id = 1`],
    events: [
      'r {"id":1}: null -> {"id":1,"n":1}',
      'c {"id":2}: null -> {"id":2,"n":2}',
      'u {"id":1}: null -> {"id":1,"n":3}',
    ],
  },
  {
    title: 'virtual generated columns too',
    since: 18,
    setup: `create table item (id int primary key, n int, twice int generated always as (n * 2)); insert into item values (1, 1)`,
    statements: [`insert into item values (2, 2)`],
    events: ['r {"id":1}: null -> {"id":1,"n":1}', 'c {"id":2}: null -> {"id":2,"n":2}'],
  },
  {
    title: 'one transaction over several tables keeps its order in each',
    setup: `create table item (id int primary key, n int); create table other (id int primary key)`,
    statements: [
      `begin; insert into item values (1, 1); insert into other values (1); update item set n = 2; insert into other values (2); delete from item; commit`,
    ],
    events: [
      'c {"id":1}: null -> {"id":1,"n":1}',
      'u {"id":1}: null -> {"id":1,"n":2}',
      'd {"id":1}: {"id":1} -> null',
      '- {"id":1}',
      'other c {"id":1}: null -> {"id":1}',
      'other c {"id":2}: null -> {"id":2}',
    ],
  },
]
