/** Backfills as a test asks for them, and what it is told of them. */
import type { Log } from '../../src/log/log.js'
import type { BackfillNews } from '../../src/postgres/backfill-state.js'
import { readAll } from './pipeline.js'
import type { TestDatabase } from './servers.js'

export async function askBackfill(database: TestDatabase, request: Readonly<Record<string, unknown>>): Promise<void> {
  const text = JSON.stringify({ pipeline: database.name, do: 'snapshot', id: 'one', ...request })
  await database.query(`select pg_logical_emit_message(true, 'evert', '${text}')`)
}

export interface BackfillsTold {
  /** Everything so far. */
  news(database: TestDatabase): Promise<BackfillNews[]>
  until(database: TestDatabase, wanted: (told: BackfillNews) => boolean): Promise<BackfillNews>
  completed(database: TestDatabase, id?: string): Promise<BackfillNews>
}

export function backfillNews(openLog: () => Promise<Log>): BackfillsTold {
  const news = async (database: TestDatabase): Promise<BackfillNews[]> => {
    const log = await openLog()
    const records = await readAll(log, `${database.name}.notification`)
    await log.close()
    return records.map(({ value }) => JSON.parse(String(value)))
  }
  const until = async (database: TestDatabase, wanted: (told: BackfillNews) => boolean): Promise<BackfillNews> => {
    for (;;) {
      const found = (await news(database)).find(wanted)
      if (found !== undefined) return found
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }
  const completed = (database: TestDatabase, id = 'one'): Promise<BackfillNews> =>
    until(database, (told) => told.kind === 'backfill-complete' && told.id === id)
  return { news, until, completed }
}
