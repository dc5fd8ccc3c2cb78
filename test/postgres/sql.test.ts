import { readdirSync, readFileSync } from 'node:fs'
import { fillIn, quoteIdentifier, quoteLiteral, sql } from '../../src/postgres/sql.js'

const folder = new URL('../../sql/', import.meta.url)
const files = readdirSync(folder)

describe('the variables of a statement', () => {
  it.each([
    ["select :'a'", { a: "it's" }, "select 'it''s'"],
    ["select :'a'", { a: '\\' }, "select  E'\\\\'"],
    ['select :"a"', { a: 'x"y' }, 'select "x""y"'],
    ['select :a', { a: '"x", "y"' }, 'select "x", "y"'],
    ["select :'a'::int, 1::int8", { a: '1' }, "select '1'::int, 1::int8"],
    ["select :'a', :'a'", { a: '$1 $& :b' }, "select '$1 $& :b', '$1 $& :b'"],
    [
      "select ':a', ':''a', \":b\", $$:c$$, $tag$ :d $$ $tag$",
      {},
      "select ':a', ':''a', \":b\", $$:c$$, $tag$ :d $$ $tag$",
    ],
    ['select a[1:n], b[0:i.n - 1], (c)[x[1]:y]', {}, 'select a[1:n], b[0:i.n - 1], (c)[x[1]:y]'],
    ["-- :'no', it's\nselect 1 /* :no */ -- :no", {}, 'select 1'],
    ["select '-- text' -- comment\n where true;\n", {}, "select '-- text'  where true"],
  ])('%j', (text, variables, expected) => {
    expect(fillIn(text, variables as Record<string, string>, 'x.sql')).toBe(expected)
  })

  it('must all be set', () => {
    expect(() => fillIn("select :'a'", {}, 'x.sql')).toThrow('x.sql needs the variable a')
  })

  it('must all be used', () => {
    expect(() => fillIn('select 1 -- :a', { a: '1' }, 'x.sql')).toThrow('x.sql has no variable a')
  })
})

describe('quoting', () => {
  it.each([
    ['a', '"a"', "'a'"],
    ['a"b', '"a""b"', `'a"b'`],
    ["a'b", `"a'b"`, "'a''b'"],
    ["a\\'b", `"a\\'b"`, " E'a\\\\''b'"],
  ])('of %j', (text, identifier, literal) => {
    expect(quoteIdentifier(text)).toBe(identifier)
    expect(quoteLiteral(text)).toBe(literal)
  })
})

describe('the files of sql/', () => {
  it('are found', () => {
    expect(sql('slot-drop', { slot: 'x' })).toBe("select pg_drop_replication_slot('x')")
  })

  it.each(files)('%s says what it is for, who runs it, what it needs, and holds one statement', (file) => {
    const text = readFileSync(new URL(file, folder), 'utf8')
    const comment = /^(?:--.*\n)+/.exec(text)?.[0] ?? ''
    expect(comment).toMatch(/^-- [A-Z][^]*\.\n-- Run by/)
    expect(comment.replaceAll('\n-- ', ' ')).toMatch(/Run by: .+\. (Variables: .+\. )?Oldest Postgres: \d+\.\n$/)
    const variables = [...text.slice(comment.length).matchAll(/(?<![:\w]):['"]?([a-z]\w*)/g)].map(([, name]) => name)
    for (const variable of variables) expect(comment).toMatch(new RegExp(`Variables: .*\\b${variable}\\b`))
    expect(variables.length > 0).toBe(comment.includes('Variables: '))
    expect(text.slice(comment.length)).not.toMatch(/;|--/)
  })
})
