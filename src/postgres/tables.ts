/** Tables: from a relation version to a table compiled for encoding, with its topic; each version is told once on the schema topic. */
import type { Relation, RelationDescription } from '../event/relation.js'
import type { RecordSink } from '../event/sink.js'
import { type CompiledTable, compileTable } from '../event/table.js'
import { schemaTopic, tableTopic } from '../event/topic-name.js'
import type { Transcoder } from '../event/transcoder.js'
import type { ValueOptions } from '../event/type-kinds.js'

/** What is known of relation versions, across restarts. */
export interface RelationMemory {
  /** Null where the version was never seen. */
  recall(relation: Relation): RelationDescription | null
  /** As the catalog has it now. */
  ask(relation: Relation): Promise<RelationDescription>
  /** From the next commit on. */
  remember(relation: Relation, description: RelationDescription): void
}

export interface TablesOptions {
  readonly pipeline: string
  readonly sink: RecordSink
  readonly relations: RelationMemory
  readonly values: ValueOptions
}

export class Tables {
  readonly #options: TablesOptions
  readonly #transcoder: Transcoder

  constructor(options: TablesOptions, transcoder: Transcoder) {
    this.#options = options
    this.#transcoder = transcoder
  }

  /** `renew` asks the catalog again, because what is remembered turned out to be older than the values. */
  async open(relation: Relation, options: { readonly renew: boolean } = { renew: false }): Promise<CompiledTable> {
    const { pipeline, sink, relations, values } = this.#options
    const recalled = options.renew ? null : relations.recall(relation)
    const description = recalled ?? (await relations.ask(relation))
    const keyed = withKey(relation, description)
    const hasKey = keyed.columns.some((column) => column.key)
    const topic = await sink.topic({ name: tableTopic(pipeline, relation.schema, relation.table), keyed: hasKey })
    if (recalled === null) {
      const schemas = await sink.topic({ name: schemaTopic(pipeline), keyed: true })
      this.#transcoder.schema(schemas, keyed, description)
      relations.remember(relation, description)
    }
    return compileTable({ relation: keyed, topic, types: description.types, values })
  }
}

/** Under REPLICA IDENTITY FULL the stream flags every column: there the key is the primary key. */
function withKey(relation: Relation, { primaryKey }: RelationDescription): Relation {
  if (relation.replicaIdentity !== 'full') return relation
  return {
    ...relation,
    columns: relation.columns.map((column) => ({ ...column, key: primaryKey.includes(column.name) })),
  }
}
