/** Strings as JSON: the same text comes back from JSON.parse, whatever it holds. */
import fc from 'fast-check'
import { stringLength, writeString } from '../../src/event/json.js'

function written(text: string): string {
  const from = Buffer.from(text)
  const out = Buffer.alloc(from.length * 6 + 2)
  return out.toString('utf8', 0, writeString(from, 0, from.length, out, 0))
}

describe('a JSON string', () => {
  it('is the text again, and as long as was said before', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        const from = Buffer.from(text)
        const json = written(text)
        return JSON.parse(json) === from.toString() && Buffer.byteLength(json) === stringLength(from, 0, from.length)
      }),
    )
  })

  it.each(['', '"', '\\', '\n\r\t\b\f', '\u0000\u001f\u007f', 'é', '東京', '😀', 'x'.repeat(5000)])(
    'holds %j',
    (text) => {
      expect(written(text)).toBe(JSON.stringify(text))
    },
  )
})
