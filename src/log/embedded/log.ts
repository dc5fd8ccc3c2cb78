/** The embedded log: Kafka's record batches in an LMDB environment, for development, tests, demos and small single-machine uses. */
import { type Compression, loadCodec } from '../compression.js'
import type { Log, Progress } from '../log.js'
import { offsetAt } from '../offset-at.js'
import { requireProgress } from '../records-without-progress.js'
import { Environment } from './environment.js'
import { CommitWatch, offsetsOf, readPartition, recordFinder } from './reader.js'
import { createTopic, deleteTopic, findPartition, listTopics } from './topics.js'
import { deleteProgress, listPipelines, openEmbeddedWriter, readProgress } from './writer.js'

export interface EmbeddedLogOptions {
  readonly directory: string
  /** What new topics get; topics that are there keep what they have. */
  readonly topics: { readonly partitions: number }
  readonly compression?: Compression
  /** False for commands that only read: a directory that is not there is then an error. Default true. */
  readonly create?: boolean
}

/** Several processes may have the same directory open. Errors: LOG_FORMAT, LOG_DISK_FULL, COMPRESSION_MISSING. */
export async function openEmbeddedLog(options: EmbeddedLogOptions): Promise<Log> {
  const { partitions } = options.topics
  const codec = await loadCodec(options.compression ?? 'none')
  const environment = new Environment({ directory: options.directory, create: options.create ?? true })
  try {
    environment.checkFormat()
  } catch (error) {
    await environment.close()
    throw error
  }
  const commits = new CommitWatch(environment)

  const log: Log = {
    // A topic goes only by evert drop, and nothing cuts one short but the file's own end.
    requireWhole: async ({ name, topics, signal }) => {
      const settled = (): Promise<Progress> => log.readProgress({ name, signal })
      await requireProgress(log, { name, topics, signal, progress: await settled(), settled })
    },
    openWriter: async ({ name }) => openEmbeddedWriter({ environment, name, partitions, codec }),
    openTopicWriter: async ({ topic }) => openEmbeddedWriter({ environment, name: `${topic}.into`, partitions, codec }),
    readProgress: async ({ name }) => environment.read(() => readProgress(environment, name)),
    pipelines: async () => environment.read(() => listPipelines(environment)),
    topics: async (prefix) => environment.read(() => listTopics(environment, prefix)),
    createTopics: async (requests) =>
      environment.write(() => {
        for (const request of requests) createTopic(environment, request, partitions)
      }),
    deleteTopics: async (names) =>
      environment.write(() => {
        for (const name of names) deleteTopic(environment, name)
      }),
    deleteProgress: async (name) => environment.write(() => deleteProgress(environment, name)),
    offsets: async (topic, partition) => environment.read(() => offsetsOf(environment, topic, partition)),
    settled: async () => undefined, // a commit is one step here
    offsetAt: async ({ topic, partition, position }) => {
      const { id, offsets } = environment.read(() => ({
        id: findPartition(environment, topic, partition),
        offsets: offsetsOf(environment, topic, partition),
      }))
      return offsetAt({ ...offsets, position, firstRecordAtOrAfter: recordFinder(environment, { topic, id }) })
    },
    read: (readOptions) => readPartition(environment, commits, readOptions),
    close: async () => {
      await environment.close()
      commits.wake()
    },
  }
  return log
}
