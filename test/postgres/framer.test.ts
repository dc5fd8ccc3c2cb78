/** The framer against the plain way: all bytes in one buffer, and one message after the other cut out of it. */
import fc from 'fast-check'
import { Framer, isGiven } from '../../src/postgres/framer.js'

const MEGABYTE = 1024 * 1024

interface Message {
  readonly tag: number
  readonly body: Buffer
}

function encoded({ tag, body }: Message): Buffer {
  const head = Buffer.from([tag, 0, 0, 0, 0])
  head.writeUInt32BE(body.length + 4, 1)
  return Buffer.concat([head, body])
}

const message = (maxLength: number): fc.Arbitrary<Message> =>
  fc.record({
    tag: fc.integer({ min: 0x41, max: 0x7a }),
    body: fc.tuple(fc.nat(255), fc.nat(maxLength)).map(([byte, length]) => Buffer.alloc(length, byte)),
  })

const shown = ({ tag, body }: Message): string => `${tag}/${body.length}/${body.toString('latin1')}`

describe('the framer', () => {
  it.each([
    ['small messages', 40, 400, { numRuns: 500 }],
    ['messages that are larger than its buffer', 3 * MEGABYTE, 2 * MEGABYTE, { numRuns: 20 }],
  ])('finds %s however they are cut, and however often it is held', (_, most, chunk, runs) => {
    fc.assert(
      fc.property(
        fc.array(message(most), { maxLength: 12 }),
        fc.array(fc.integer({ min: 1, max: chunk }), { minLength: 1 }),
        fc.array(fc.boolean(), { minLength: 1 }),
        fc.boolean(),
        (messages, sizes, holds, inPlace) => {
          const bytes = Buffer.concat(messages.map(encoded))
          const found: string[] = []
          const framer = new Framer((tag, buffer, start, end) => {
            found.push(shown({ tag, body: buffer.subarray(start, end) }))
            if (holds[found.length % holds.length]) framer.hold()
          })
          let at = 0
          for (let turn = 0; at < bytes.length; turn++) {
            let length = Math.min(sizes[turn % sizes.length]!, bytes.length - at)
            const part = bytes.subarray(at, at + length)
            if (inPlace) {
              const room = framer.room()
              length = Math.min(length, room.length)
              room.set(part.subarray(0, length))
              framer.filled(length)
            } else framer.push(part)
            at += length
            // As often as it is held; what has come by then is found.
            if (turn % 3 === 0) while (framer.held) framer.release()
          }
          while (framer.held) framer.release()
          expect(found.join('\n') === messages.map(shown).join('\n')).toBe(true)
        },
      ),
      runs,
    )
  })

  // As a row is read that is a TLS record of its own: the next read begins with a message.
  it.each([1.5, 3])('goes on where a message of %s MB was read to its end', (megabytes) => {
    const messages = [40, megabytes * MEGABYTE, 40, 50].map((length, i) => ({
      tag: 0x64,
      body: Buffer.alloc(length, i),
    }))
    const found: string[] = []
    const framer = new Framer((tag, buffer, start, end) =>
      found.push(shown({ tag, body: buffer.subarray(start, end) })),
    )
    for (const bytes of messages.map(encoded)) {
      for (let at = 0; at < bytes.length;) {
        const room = framer.room()
        const part = bytes.subarray(at, at + room.length)
        room.set(part)
        framer.filled(part.length)
        at += part.length
      }
    }
    expect(found.join('\n') === messages.map(shown).join('\n')).toBe(true)
  })

  it('gives the room of a large message back, also where a part of the next one was read with it', () => {
    const framer = new Framer(() => undefined)
    const next = encoded({ tag: 0x64, body: Buffer.alloc(40) })
    framer.push(Buffer.concat([encoded({ tag: 0x64, body: Buffer.alloc(30 * MEGABYTE) }), next.subarray(0, 20)]))
    expect(framer.room().length).toBeLessThanOrEqual(MEGABYTE)
    framer.push(next.subarray(20))
    expect(framer.room().length).toBe(MEGABYTE)
  })

  it.each([
    ['in pieces', 50_000],
    ['in large pieces', 3 * MEGABYTE + 1],
    ['while it is held', 64 * MEGABYTE],
  ])('gives the buffer of a huge message to its handler, %s', (_, chunk) => {
    const lengths = [40, 17 * MEGABYTE, 20 * MEGABYTE, 3, 300_000, 16 * MEGABYTE, 5]
    const messages = lengths.map((length, i) => ({ tag: 0x64, body: Buffer.alloc(length, 0x61 + i) }))
    const bytes = Buffer.concat(messages.map(encoded))
    const found: string[] = []
    const given: Buffer[] = []
    const framer = new Framer((tag, buffer, start, end) => {
      found.push(`${tag}/${end - start}/${buffer[start]}/${buffer[end - 1]}`)
      expect(buffer.subarray(start, end).equals(messages[found.length - 1]!.body)).toBe(true)
      if (end - start >= 16 * MEGABYTE) expect(isGiven(buffer)).toBe(true)
      if (!isGiven(buffer)) return
      if (chunk < MEGABYTE) expect(buffer.length).toBeGreaterThan((end - start) * 1.2)
      // Whatever becomes of it is no matter to what follows.
      given.push(buffer.fill(0xff))
      framer.hold()
    })
    for (let at = 0; at < bytes.length; at += chunk) {
      framer.push(bytes.subarray(at, at + chunk))
      while (framer.held) framer.release()
    }
    expect(found.map((one) => Number(one.split('/')[1]))).toEqual(lengths)
    expect(new Set(given).size).toBeGreaterThanOrEqual(3)
    for (const buffer of given) expect(buffer.every((byte) => byte === 0xff)).toBe(true)
  })

  it.each([0, 3, 0x40000001])('refuses a message that claims to be %i bytes long', (length) => {
    const head = Buffer.from([0x64, 0, 0, 0, 0])
    head.writeUInt32BE(length, 1)
    expect(() => new Framer(() => undefined).push(head)).toThrow(`claims to be ${length} bytes long`)
  })
})
