/** Backfill table: one whose rows are being published, as the backfill sees it; and what each of them needs of the backfill. */
import type { Clock } from '../base/clock.js'
import type { Logger } from '../base/logger.js'
import type { EndLsn } from '../event/lsn.js'
import type { Relation } from '../event/relation.js'
import type { BackfillJobs } from './backfill-jobs.js'
import type { BackfillJob, BackfillState } from './backfill-state.js'
import type { Bystander } from './changes.js'
import type { ConnectionOptions } from './connection-options.js'
import type { TablesOptions } from './tables.js'

export interface BackfillTable extends Omit<Bystander, 'request'> {
  /** Nothing is to be done after the next transaction. */
  readonly idle: boolean
  /** Something that it may wait for has happened. */
  wake(): void
  /** Until its rows are published, the job is another's turn, or the table another one: then it is asked again what is to be done. */
  run(signal: AbortSignal): Promise<void>
}

export interface BackfillTableOptions extends Omit<TablesOptions, 'into'> {
  readonly job: BackfillJob
  readonly jobs: BackfillJobs
  readonly state: BackfillState
  readonly connection: ConnectionOptions
  /** Has the state committed with the records of the next batch. */
  readonly remember: () => void
  /** Has the server say how far its WAL is. */
  readonly ask: () => void
  readonly clock: Clock
  readonly logger: Logger
}

/** How often what fails is tried in a row. */
export const TRIES = 5

/** Work for the next boundary between transactions; the stream waits while it is done. */
export class NextBoundary {
  #work: ((endLsn: EndLsn) => Promise<void>) | null = null

  get awaited(): boolean {
    return this.#work !== null
  }

  /** Errors: those of the work, which are not the stream's; and an abort. */
  async at<T>(work: (endLsn: EndLsn) => Promise<T>, signal: AbortSignal): Promise<T> {
    let stop = (): void => undefined
    const done = new Promise<T>((resolve, reject) => {
      stop = () => {
        this.#work = null
        reject(new Error('the backfill was stopped'))
      }
      this.#work = async (endLsn) => await work(endLsn).then(resolve, reject)
    })
    signal.addEventListener('abort', stop)
    return await done.finally(() => signal.removeEventListener('abort', stop))
  }

  come(endLsn: EndLsn): Promise<void> | null {
    const work = this.#work
    this.#work = null
    return work === null ? null : work(endLsn)
  }
}

/** Under REPLICA IDENTITY FULL the stream flags every column, and the catalog those of the primary key. */
export function relationShape({ schema, table, replicaIdentity, columns }: Relation): string {
  const full = replicaIdentity === 'full'
  const shapes = columns.map(({ name, typeOid, typeModifier, key }) => [name, typeOid, typeModifier, full || key])
  return JSON.stringify([schema, table, replicaIdentity, shapes])
}
