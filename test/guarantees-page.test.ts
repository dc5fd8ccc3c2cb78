/** docs/guarantees.md names every scenario, and no test that is not there. Figures differ by machine: they are not compared. */
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { SCENARIOS } from './faults/scenarios.js'

const ROOT = fileURLToPath(new URL('../', import.meta.url))
const page = readFileSync(`${ROOT}docs/guarantees.md`, 'utf8')
const rows = [...page.matchAll(/^\| `([a-z0-9-]+)` +\| ([^|]+) \|/gm)]

it('names every scenario and its fault, in their order, and no other: npm run guarantees', () => {
  const named = rows.map(([, name, fault]) => `${name}: ${fault?.trim()}`)
  expect(named).toEqual(SCENARIOS.map(({ name, fault }) => `${name}: ${fault}`))
})

it('names only tests that are there', () => {
  const named = [...page.matchAll(/`(test\/[^`]+)`/g)].map(([, file]) => file ?? '')
  expect(named.length).toBeGreaterThan(0)
  expect(named.filter((file) => !existsSync(ROOT + file))).toEqual([])
})
