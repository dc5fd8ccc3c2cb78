/** Compression of the records section of a batch: the codecs of @platformatic/kafka, loaded when first asked for, and zstd where Node has none. */
import { EvertError } from '../base/errors.js'

export type Compression = 'none' | 'gzip' | 'snappy' | 'lz4' | 'zstd'

/** Bits 0 to 2 of a batch's attributes. https://kafka.apache.org/documentation/#recordbatch */
const COMPRESSION_BITS = { none: 0, gzip: 1, snappy: 2, lz4: 3, zstd: 4 } as const satisfies Record<Compression, number>

/** Asynchronous only because of zstd on Node before 22.15, whose library has no synchronous calls. */
export interface Codec {
  /** What goes into bits 0 to 2 of a batch's attributes. */
  readonly bits: number
  compress(bytes: Buffer): Buffer | Promise<Buffer>
  decompress(bytes: Buffer): Buffer | Promise<Buffer>
}

const codecs = new Map<Compression, Promise<Codec>>()

/** Errors: COMPRESSION_MISSING. */
export function loadCodec(compression: Compression): Promise<Codec> {
  const known = codecs.get(compression)
  if (known !== undefined) return known
  const loading = load(compression)
  codecs.set(compression, loading)
  return loading
}

/** The compression that the attributes of a batch name, or null for bits that Kafka has not given a meaning. */
export function compressionOf(attributes: number): Compression | null {
  const bits = attributes & 7
  for (const [name, value] of Object.entries(COMPRESSION_BITS)) if (value === bits) return name as Compression
  return null
}

async function load(compression: Compression): Promise<Codec> {
  const bits = COMPRESSION_BITS[compression]
  if (compression === 'none') return { bits, compress: (bytes) => bytes, decompress: (bytes) => bytes }
  // The client library costs a good part of a second to load: the embedded log without compression does without it.
  const { compressionsAlgorithms } = await import('./codecs.js')
  const algorithm = compressionsAlgorithms[compression]
  if (!algorithm.available) return loadZstd(bits)
  return {
    bits,
    compress: (bytes) => algorithm.compressSync(bytes),
    decompress:
      compression === 'snappy'
        ? (bytes) => decompressSnappy(bytes, (block) => algorithm.decompressSync(block))
        : (bytes) => algorithm.decompressSync(bytes),
  }
}

interface ZstdLibrary {
  compress(bytes: Buffer): Promise<Buffer>
  decompress(bytes: Buffer): Promise<Buffer>
}

async function loadZstd(bits: number): Promise<Codec> {
  const name: string = '@mongodb-js/zstd'
  try {
    const library = (await import(name)) as ZstdLibrary
    return { bits, compress: (bytes) => library.compress(bytes), decompress: (bytes) => library.decompress(bytes) }
  } catch (cause) {
    throw new EvertError('COMPRESSION_MISSING', {
      message: `zstd needs Node 22.15 or the optional package ${name}, which cannot be loaded`,
      hint: `npm install ${name}; or take another compression: gzip, lz4 or snappy`,
      cause,
    })
  }
}

const XERIAL_MAGIC = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0])
/** The magic, then two version numbers of four bytes. */
const XERIAL_HEADER_BYTES = 16

/**
 * Java's clients and a broker that compresses again write snappy in blocks, each behind its length; the library knows the bare
 * block only (which is what we write, and which Java reads too).
 * https://github.com/xerial/snappy-java/blob/master/src/main/java/org/xerial/snappy/SnappyOutputStream.java
 */
function decompressSnappy(bytes: Buffer, decompressBlock: (block: Buffer) => Buffer): Buffer {
  if (!bytes.subarray(0, XERIAL_MAGIC.length).equals(XERIAL_MAGIC)) return decompressBlock(bytes)
  const blocks: Buffer[] = []
  for (let at = XERIAL_HEADER_BYTES; at < bytes.length;) {
    const length = bytes.readUInt32BE(at)
    blocks.push(decompressBlock(bytes.subarray(at + 4, at + 4 + length)))
    at += 4 + length
  }
  return Buffer.concat(blocks)
}
