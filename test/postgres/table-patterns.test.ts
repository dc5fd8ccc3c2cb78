import { tablePatterns } from '../../src/postgres/table-patterns.js'

describe('table patterns', () => {
  it.each([
    ['*', 'any.thing', true],
    ['*.*', 'any.thing', true],
    ['orders', 'public.orders', true],
    ['orders', 'app.orders', false],
    ['app.orders', 'app.orders', true],
    ['app.*', 'app.orders', true],
    ['app.*', 'apps.orders', false],
    ['*.orders', 'app.orders', true],
    ['public.o*', 'public.orders', true],
    ['public.o*', 'public.cart', false],
    ['public.o?', 'public.o1', true],
    ['public.o?', 'public.o12', false],
    ['public.o?', 'public.o😀', true],
    ['public.a+b', 'public.a+b', true],
    ['public.a+b', 'public.aab', false],
    ['public.a$b-c', 'public.a$b-c', true],
    ['Public.Orders', 'public.orders', true],
    ['Orders', 'public.Orders', false],
    ['"Orders"', 'public.Orders', true],
    ['"Orders"', 'public.orders', false],
    ['"*"', 'public.orders', false],
    ['"*"', 'public.*', true],
    ['"a""b"', 'public.a"b', true],
    ['"a,b"', 'public.a,b', true],
    ['"my schema".*', 'my schema.t', true],
    [' a , b ', 'public.b', true],
    ['a,b', 'public.c', false],
    ['public.*,!public.audit', 'public.orders', true],
    ['public.*,!public.audit', 'public.audit', false],
    ['!audit,public.*', 'public.audit', false],
    ['!audit', 'public.audit', false],
    ['!audit', 'app.orders', true],
    ['!audit*,!app.*', 'app.orders', false],
  ])('%s and %s: %s', (text, table, expected) => {
    const dot = table.indexOf('.')
    expect(tablePatterns(text).matches(table.slice(0, dot), table.slice(dot + 1))).toBe(expected)
  })

  it('takes a dot in a quoted name for a part of it', () => {
    const patterns = tablePatterns('public."Odd.Name"')
    expect(patterns.matches('public', 'Odd.Name')).toBe(true)
    expect(patterns.matches('public', 'Odd')).toBe(false)
  })

  it.each([
    ['*', true],
    ['*.*', true],
    ['public.cart,*', true],
    ['public.*', false],
    ['*,!public.audit', false],
    ['!public.audit', false],
    ['"*"', false],
  ])('%s means every table: %s', (text, all) => {
    expect(tablePatterns(text).all).toBe(all)
  })

  it.each(['', ' ', 'a,', ',a', 'a,,b', 'a.b.c', 'a.', '.a', '!', '!!a', '"a', 'a"', '""', '"a"b', 'public."a'])(
    'refuses %j',
    (text) => {
      expect(() => tablePatterns(text)).toThrow(expect.objectContaining({ code: 'OPTION_INVALID' }))
    },
  )
})
