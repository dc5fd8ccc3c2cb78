/** Tables: from a relation version to a table compiled for encoding, with its topic; each version is told once on the schema topic. */
import { isDeepStrictEqual } from 'node:util'
import { EvertError } from '../base/errors.js'
import type { Envelope } from '../event/envelope.js'
import type { Relation, RelationDescription } from '../event/relation.js'
import type { RecordSink } from '../event/sink.js'
import { type CompiledTable, compileTable } from '../event/table.js'
import { lastingTopic, schemaTopic, tableTopic } from '../event/topic-name.js'
import type { LargeValues, Transcoder } from '../event/transcoder.js'
import type { ValueOptions } from '../event/type-kinds.js'

/** What is known of relation versions, across restarts. */
export interface RelationMemory {
  /** Null where the version was never seen. */
  recall(relation: Relation): RelationDescription | null
  /** As the catalog has it now. */
  ask(relation: Relation): Promise<RelationDescription>
  /** From the next commit on. */
  remember(relation: Relation, description: RelationDescription): void
  /** The primary keys that other versions of the table had, the latest first. */
  earlierKeys(relation: Relation): readonly (readonly string[])[]
}

/** For who reads tables as they are now, and remembers nothing. */
export function withoutMemory(ask: RelationMemory['ask']): RelationMemory {
  return { recall: () => null, ask, remember: () => undefined, earlierKeys: () => [] }
}

export interface TablesOptions {
  readonly pipeline: string
  /** One topic for the rows of all tables, instead of the pipeline's own; their shapes are then not told of. */
  readonly into?: string
  readonly sink: RecordSink
  readonly relations: RelationMemory
  readonly values: ValueOptions
  readonly envelope: Envelope
  readonly largeValues: LargeValues
}

interface OpenOptions {
  readonly renew: boolean
  readonly prefixes: boolean
  readonly opaque: ReadonlySet<number>
}
const FIRST: OpenOptions = { renew: false, prefixes: false, opaque: new Set() }
/** For rows that are read now: as the catalog is now. */
export const RENEWED: OpenOptions = { ...FIRST, renew: true }

export class Tables {
  readonly #options: TablesOptions
  readonly #transcoder: Transcoder

  constructor(options: TablesOptions, transcoder: Transcoder) {
    this.#options = options
    this.#transcoder = transcoder
  }

  /**
   * `renew` asks the catalog again, because what is remembered turned out not to fit the values; with `prefixes` it is taken as newer than
   * them where that leaves no doubt; and types in `opaque` are written as their Postgres text.
   */
  async open(relation: Relation, options: OpenOptions = FIRST): Promise<CompiledTable> {
    const { pipeline, into, sink, relations, values, envelope } = this.#options
    const recalled = relations.recall(relation)
    const asked = recalled === null || options.renew ? await relations.ask(relation) : recalled
    const keyed = relation.replicaIdentity === 'full' ? this.#withKey(relation, asked) : relation
    const key = keyed.columns.filter((column) => column.key).map(({ name }) => name)
    const topic = await sink.topic({
      name: into ?? tableTopic(pipeline, relation.schema, relation.table),
      // Rows of several tables can have the same key, and would be compacted away.
      keyed: into === undefined && key.length > 0,
    })
    const description = { ...asked, primaryKey: key, told: { format: envelope.name, values } }
    if (into === undefined && !isDeepStrictEqual(recalled, description)) {
      const schemas = await sink.topic(lastingTopic(schemaTopic(pipeline)))
      this.#transcoder.schema(schemas, keyed, description)
      relations.remember(relation, description)
    }
    const types = Object.entries(description.types).filter(([oid]) => !options.opaque.has(Number(oid)))
    const compiled = { ...values, prefixes: options.prefixes }
    return compileTable({ relation: keyed, topic, types: Object.fromEntries(types), values: compiled, envelope })
  }

  /**
   * Under REPLICA IDENTITY FULL the stream flags every column: there the key is the primary key. The catalog knows today's; where that is
   * not of this version's columns, one that an earlier version had may be. Of a table that is gone, there may be none.
   */
  #withKey(relation: Relation, { primaryKey }: RelationDescription): Relation {
    const names = new Set(relation.columns.map(({ name }) => name))
    const keys = [...(primaryKey === null ? [] : [primaryKey]), ...this.#options.relations.earlierKeys(relation)]
    const fits = (columns: readonly string[]): boolean => columns.length > 0 && columns.every((name) => names.has(name))
    const key = primaryKey?.length === 0 ? [] : (keys.find(fits) ?? [])
    if (primaryKey !== null && primaryKey.length > 0 && key.length === 0) {
      const table = `"${relation.schema}"."${relation.table}"`
      throw new EvertError('KEY_UNKNOWN', {
        message: `table ${table} has REPLICA IDENTITY FULL, and its primary key (${primaryKey.join(', ')}) is not among the columns of the stream: it had others at this point, or the publication leaves some of it out`,
        hint: `publish all columns of the key (generated ones can be from Postgres 18 on); or leave it out (--tables '*,!${relation.schema}.${relation.table}'), or evert drop --topics, then evert run, starts over with a new snapshot`,
      })
    }
    return { ...relation, columns: relation.columns.map((column) => ({ ...column, key: key.includes(column.name) })) }
  }
}
