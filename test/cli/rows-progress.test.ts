/** How far rows are, for people. */
import { jest } from '@jest/globals'
import { silentLogger } from '../../src/base/logger.js'
import { backfillProgress } from '../../src/cli/backfill-progress.js'
import { RowsProgress } from '../../src/cli/rows-progress.js'
import { newJob } from '../../src/postgres/backfill-state.js'

const said: object[] = []
const logger = { ...silentLogger, info: (fields: object, message: string) => void said.push({ ...fields, message }) }

beforeEach(() => {
  said.length = 0
  jest.useFakeTimers()
})

afterEach(() => {
  jest.useRealTimers()
})

it('says every ten seconds how many rows there are, how fast they come, and how long it takes yet', () => {
  const progress = new RowsProgress('snapshot', logger)
  progress.begin({ rows: 1000, estimatedRows: 10_000 })
  for (let second = 1; second <= 25; second++) {
    jest.advanceTimersByTime(1000)
    progress.at({ rows: 1000 + second * 100, estimatedRows: 10_000 }, 'item', { tables: 1 })
  }
  const common = { estimatedRows: 10_000, rowsASecond: 100, table: 'item', tables: 1, message: 'snapshot goes on' }
  expect(said).toEqual([
    { ...common, rows: 2000, secondsLeft: 80 },
    { ...common, rows: 3000, secondsLeft: 70 },
  ])
})

it('does not guess where nothing comes, or more than was thought', () => {
  const progress = new RowsProgress('snapshot', logger)
  for (const [rows, later] of [
    [0, 0],
    [5, 20],
  ] as const) {
    progress.begin({ rows, estimatedRows: 10 })
    jest.advanceTimersByTime(10_000)
    progress.at({ rows: later, estimatedRows: 10 }, 'item', {})
  }
  expect(said).toMatchObject([{ secondsLeft: null }, { secondsLeft: null }])
})

it('says it with a bar on a terminal, which does not outlive what it was of', () => {
  const { isTTY } = process.stderr
  const write = jest.spyOn(process.stderr, 'write').mockReturnValue(true)
  process.stderr.isTTY = true
  try {
    const progress = new RowsProgress('snapshot', logger)
    progress.begin({ rows: 0, estimatedRows: 10 })
    progress.at({ rows: 5, estimatedRows: 10 }, 'item', {})
    progress.end()
    const backfill = backfillProgress(logger)
    const job = { ...newJob({ id: 'one' }), tables: [{ schema: 'public', table: 'a' }], rows: 1, estimatedRows: 2 }
    backfill.onBackfills([job])
    expect(jest.getTimerCount()).toBe(1)
    backfill.onState('retrying', null)
    expect(jest.getTimerCount()).toBe(0)
  } finally {
    process.stderr.isTTY = isTTY
    write.mockRestore()
  }
})

it('a live backfill is told of table by table, and not while it is paused', () => {
  const progress = backfillProgress(logger)
  const job = { ...newJob({ id: 'one' }), tables: ['a', 'b'].map((table) => ({ schema: 'public', table })) }
  const tell = (of: Partial<typeof job>): void => {
    jest.advanceTimersByTime(10_000)
    progress.onBackfills([{ ...job, ...of }])
  }
  tell({}) // not begun
  tell({ rows: 500, estimatedRows: 3000 }) // begun before this process was
  tell({ rows: 1500, estimatedRows: 3000 })
  tell({ rows: 1500, estimatedRows: 3000, paused: true })
  const [, second] = job.tables
  tell({ tables: [second!], rows: 10, estimatedRows: 20 })
  tell({ tables: [second!], rows: 20, estimatedRows: 20 })
  expect(said).toMatchObject([
    { id: 'one', table: 'public.a', tablesLeft: 2, rows: 1500, rowsASecond: 100, secondsLeft: 15 },
    { id: 'one', table: 'public.b', tablesLeft: 1, rows: 20, rowsASecond: 1, secondsLeft: null },
  ])
})
