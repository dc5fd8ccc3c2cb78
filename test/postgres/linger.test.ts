/** When what was decoded waits for more, by a clock that is moved by hand. */
import { type Clock, systemClock } from '../../src/base/clock.js'
import { Linger } from '../../src/postgres/linger.js'

const AT_ONCE = { bytes: 2_000_000, ageMs: 0 }

interface Started {
  readonly linger: Linger
  /** Milliseconds and work of the timer that runs. */
  readonly timers: [number, () => void][]
  readonly pass: (ms: number) => void
  readonly told: () => number
}

function start(): Started {
  let nowMs = 5000
  let told = 0
  const timers: [number, () => void][] = []
  const clock: Clock = {
    ...systemClock,
    elapsedMs: () => nowMs,
    after(ms, work) {
      timers.push([ms, work])
      return { cancel: () => void timers.splice(0), unref: () => undefined }
    },
  }
  const linger = new Linger(clock, () => told++)
  return { linger, timers, told: () => told, pass: (ms) => void (nowMs += ms) }
}

it.each([
  { what: 'of which nothing was taken', batches: [] },
  { what: 'whose first batch came after a while', batches: [[5000, 2_000_000]] },
  { what: 'of one small transaction a millisecond', batches: [[1, 300], [1, 300], [1, 300]] }, // prettier-ignore
  { what: 'in which two bursts followed each other at once', batches: [[5000, 0], [5, 250_000], [0, 250_000]] }, // prettier-ignore
  { what: 'of small transactions, with one of a thousand rows among them', batches: [[5000, 0], [20, 300], [1, 275_000], [1, 300], [20, 300]] }, // prettier-ignore
  { what: 'of 12 MB/s', batches: [[5000, 0], [20, 240_000], [20, 240_000], [40, 480_000]] }, // prettier-ignore
])('does not wait in a stream $what', ({ batches }) => {
  const { linger, pass, timers } = start()
  for (const [ms = 0, bytes = 0] of batches) {
    pass(ms)
    linger.taken(bytes)
    pass(1)
    expect(linger.waits(AT_ONCE)).toBe(false)
  }
  expect(timers).toEqual([])
})

it('waits in a fast stream until 40 ms after the last batch, by the timer', () => {
  const { linger, pass, timers, told } = start()
  linger.taken(0)
  // As small ones, beside a log that answers at once.
  for (let ms = 0; ms < 40; ms += 2) {
    expect(linger.waits(AT_ONCE)).toBe(false)
    pass(2)
    linger.taken(30_000)
  }
  pass(15)
  expect(linger.waits(AT_ONCE)).toBe(true)
  pass(1000)
  expect(linger.waits(AT_ONCE)).toBe(true)
  expect(timers.map(([ms]) => ms)).toEqual([25])
  timers[0]![1]()
  expect(told()).toBe(1)
  expect(linger.waits(AT_ONCE)).toBe(false)
  linger.taken(300_000)
  expect(timers).toEqual([])
  expect(linger.waits(AT_ONCE)).toBe(false) // it came in more than a second
})

it('does not wait in a stream that was fast, and then had nothing for a while', () => {
  const { linger, pass, timers } = start()
  linger.taken(0)
  pass(40)
  linger.taken(600_000)
  expect(linger.waits(AT_ONCE)).toBe(true)
  linger.taken(0)
  pass(41)
  expect(linger.waits(AT_ONCE)).toBe(false)
  expect(timers).toEqual([])
})

it('waits as long as it was told to, from when it could be taken, in a fast stream, too', () => {
  const { linger, pass, timers } = start()
  const limits = { ...AT_ONCE, ageMs: 5 }
  expect(linger.waits(limits)).toBe(true)
  linger.taken(0)
  pass(40)
  linger.taken(2_000_000)
  pass(100)
  expect(linger.waits(limits)).toBe(true)
  expect(timers.map(([ms]) => ms)).toEqual([5])
  linger.stop()
  expect(timers).toEqual([])
})
