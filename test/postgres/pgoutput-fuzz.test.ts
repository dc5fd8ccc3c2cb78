/** Malformed pgoutput: a million mutated messages, and each is either decoded or refused with an error that names an LSN. */
import { EvertError } from '../../src/base/errors.js'
import { EVERT } from '../../src/event/formats.js'
import { LSN_ZERO } from '../../src/event/lsn.js'
import type { RelationDescription } from '../../src/event/relation.js'
import type { RecordSink } from '../../src/event/sink.js'
import { wholeRecords } from '../../src/event/whole-records.js'
import { DEFAULT_VALUES } from '../../src/event/type-kinds.js'
import { Changes } from '../../src/postgres/changes.js'
import { PgoutputDecoder } from '../../src/postgres/pgoutput.js'
import { generator } from '../support/random.js'

const MESSAGES = Number(process.env['EVERT_TEST_MESSAGES'] ?? 1_000_000)
const SEED = Number(process.env['EVERT_TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 31))

const HSTORE = 20_001
const PAIR = 20_002
const PAIRS = 20_003
/** Type OID and a value in its text form. */
const COLUMNS: readonly (readonly [number, string])[] = [
  [23, '42'],
  [25, 'text "quoted" \\ é'],
  [1700, '12.50'],
  [701, '1.5'],
  [16, 't'],
  [17, '\\x00ff10'],
  [790, '-$1,234.50'],
  [1082, '2026-03-01'],
  [1114, '0044-03-15 12:00:00.5 BC'],
  [1184, '12026-03-01 12:00:00+00'],
  [1007, '{{1,2},{3,NULL}}'],
  [1009, '{"a,b","c\\"d",NULL}'],
  [1020, '{(1,1),(0,0);(2,2),(1,1)}'],
  [HSTORE, '"a"=>"1", "b"=>NULL'],
  [PAIR, '(1,"x ""y""")'],
  [PAIRS, '{"(1,x)","(2,)"}'],
]
const TYPES: RelationDescription['types'] = {
  [HSTORE]: { is: 'hstore' },
  [PAIR]: {
    is: 'composite',
    dropped: false,
    attributes: [
      { name: 'a', typeOid: 23 },
      { name: 'b', typeOid: 25 },
    ],
  },
  [PAIRS]: { is: 'array', element: PAIR, delimiter: ',' },
}

const u8 = (value: number): Buffer => Buffer.from([value])
const u16 = (value: number): Buffer => Buffer.from([value >> 8, value & 255])
const u32 = (value: number): Buffer => Buffer.concat([u16(value >>> 16), u16(value & 0xffff)])
const u64 = (value: number): Buffer => Buffer.concat([u32(0), u32(value)])
const name = (text: string): Buffer => Buffer.from(`${text}\0`)
const tagged = (tag: string, ...parts: Buffer[]): Buffer => Buffer.concat([Buffer.from(tag), ...parts])

const OID = 16_400
const BEGIN = tagged('B', u64(1000), u64(7), u32(755))
const COMMIT = tagged('C', u8(0), u64(1000), u64(1010), u64(7))
const RELATION = tagged(
  'R',
  u32(OID),
  name('public'),
  name('item'),
  Buffer.from('d'),
  u16(COLUMNS.length),
  ...COLUMNS.map(([type], i) => Buffer.concat([u8(i === 0 ? 1 : 0), name(`c${i}`), u32(type), u32(0xffffffff)])),
)
const ROW = Buffer.concat([
  u16(COLUMNS.length),
  ...COLUMNS.map(([, text]) => Buffer.concat([Buffer.from('t'), u32(Buffer.byteLength(text)), Buffer.from(text)])),
])
const NULLS = Buffer.concat([u16(COLUMNS.length), Buffer.from('n'.repeat(COLUMNS.length))])
const CHANGES = [
  tagged('I', u32(OID), Buffer.from('N'), ROW),
  tagged('U', u32(OID), Buffer.from('N'), ROW),
  tagged('U', u32(OID), Buffer.from('O'), ROW, Buffer.from('N'), NULLS),
  tagged('U', u32(OID), Buffer.from('K'), NULLS, Buffer.from('N'), ROW),
  tagged('D', u32(OID), Buffer.from('K'), NULLS),
  tagged('T', u32(1), u8(3), u32(OID)),
  tagged('M', u8(1), u64(990), name('prefix'), u32(5), Buffer.from('hello')),
  tagged('O', u64(5), name('origin')),
  tagged('Y', u32(20_002), name('public'), name('pair')),
]
const STRUCTURE = [RELATION, BEGIN, COMMIT]

function mutate(message: Buffer, random: (below: number) => number): Buffer {
  const copy = Buffer.from(message)
  const at = random(copy.length)
  switch (random(5)) {
    case 0:
      copy[at] = random(256)
      return copy
    case 1:
      for (let i = 0; i < 4; i++) copy[random(copy.length)] = random(256)
      return copy
    case 2:
      return copy.subarray(0, at)
    case 3:
      return Buffer.concat([copy, copy.subarray(at)])
    default:
      return Buffer.concat([copy.subarray(0, at), copy.subarray(at + 1 + random(8))])
  }
}

const topic = { name: 'shop.public.item', partitions: 1 }
const sink: RecordSink = {
  bytes: 0,
  records: 0,
  topic: () => topic,
  ...wholeRecords(() => undefined),
  appendToAll: () => undefined,
}

it(`a million mutated messages are decoded or refused (EVERT_TEST_SEED=${SEED})`, async () => {
  const random = generator(SEED)
  const unexpected: unknown[] = []
  let refused = 0
  let waiting: Promise<void>[] = []
  const known = new Map<string, RelationDescription>()
  const start = (): PgoutputDecoder => {
    const changes = new Changes({
      pipeline: 'shop',
      sink,
      relations: {
        recall: (relation) => known.get(JSON.stringify(relation)) ?? null,
        ask: async () => ({ primaryKey: ['c0'], typeNames: [], types: TYPES }),
        remember: (relation, description) => {
          if (known.size < 1000) known.set(JSON.stringify(relation), description)
        },
        earlierKeys: () => [],
      },
      values: DEFAULT_VALUES,
      envelope: EVERT,
      largeValues: { omit: false, onSkip: () => undefined },
      matches: () => true,
      skipsOrigin: () => false,
      from: LSN_ZERO,
      nowUs: () => 0n,
      waitFor: (promise) => void waiting.push(promise),
    })
    return new PgoutputDecoder(changes)
  }
  /** False where it was refused, as it may be. */
  const takes = async (decoder: PgoutputDecoder, message: Buffer): Promise<boolean> => {
    try {
      decoder.decode(message, 0, message.length, 0, 1000)
      while (waiting.length > 0) {
        const pending = waiting
        waiting = []
        await Promise.all(pending)
      }
      return true
    } catch (error) {
      const left = waiting
      waiting = []
      await Promise.allSettled(left)
      const expected =
        error instanceof EvertError && error.code === 'PROTOCOL' && /\b[0-9A-F]+\/[0-9A-F]+\b/.test(error.message)
      if (!expected && unexpected.length < 5) unexpected.push({ message: message.toString('latin1'), error })
      refused++
      return false
    }
  }
  const fresh = async (): Promise<PgoutputDecoder> => {
    const decoder = start()
    expect(await takes(decoder, BEGIN)).toBe(true)
    expect(await takes(decoder, RELATION)).toBe(true)
    return decoder
  }
  for (const change of [...CHANGES, RELATION, COMMIT]) expect(await takes(await fresh(), change)).toBe(true)
  const { stackTraceLimit } = Error
  Error.stackTraceLimit = 0 // most of the time would go there
  let decoder = await fresh()
  for (let i = 0; i < MESSAGES; i++) {
    // What tells of transactions and tables is one in fifty: after it, as after a real error, everything starts anew.
    const structural = random(50) === 0
    const mutated = mutate(structural ? STRUCTURE[random(STRUCTURE.length)]! : CHANGES[random(CHANGES.length)]!, random)
    await takes(decoder, mutated)
    if ('RBC'.includes(String.fromCharCode(mutated[0] ?? 0))) decoder = await fresh()
  }
  Error.stackTraceLimit = stackTraceLimit
  expect(unexpected).toEqual([])
  expect(refused).toBeGreaterThan(MESSAGES / 10)
})
