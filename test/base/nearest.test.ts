import { nearest } from '../../src/base/nearest.js'

describe('nearest', () => {
  it.each([
    ['sslmod', 'sslmode'],
    ['SSLMODE', 'sslmode'],
    ['hots', 'host'],
    ['dbnaem', 'dbname'],
    ['zzzzzz', null],
    ['x', null],
  ])('takes %s for %s', (word, expected) => {
    expect(nearest(word, ['host', 'dbname', 'sslmode'])).toBe(expected)
  })
})
