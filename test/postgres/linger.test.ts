/** When what was decoded waits for more, by a clock that is moved by hand. */
import { type Clock, systemClock } from '../../src/base/clock.js'
import { Linger } from '../../src/postgres/linger.js'

const LIMITS = { bytes: 1_000_000, ageMs: 0 }

function start(): { linger: Linger; pass: (ms: number) => void; timers: [number, () => void][]; told: () => number } {
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

it('does not wait in a stream of which nothing was taken, nor in one that is slow', () => {
  const { linger, pass, timers } = start()
  expect(linger.waits(LIMITS)).toBe(false)
  linger.taken(LIMITS.bytes, LIMITS)
  expect(linger.waits(LIMITS)).toBe(false)
  pass(10)
  linger.taken(60_000, LIMITS)
  expect(linger.waits(LIMITS)).toBe(false)
  expect(timers).toEqual([])
})

it('waits in a stream that fills a quarter of a batch in 40 ms, until that time is over, and not in the next batch of one that has slowed down', () => {
  const { linger, pass, timers, told } = start()
  linger.taken(0, LIMITS)
  pass(10)
  linger.taken(62_500, LIMITS)
  expect(linger.waits(LIMITS)).toBe(true)
  pass(1000)
  expect(linger.waits(LIMITS)).toBe(true) // the timer says when
  expect(timers.map(([ms]) => ms)).toEqual([40])
  timers[0]![1]()
  expect(told()).toBe(1)
  expect(linger.waits(LIMITS)).toBe(false)
  linger.taken(100_000, LIMITS)
  expect(timers).toEqual([])
  expect(linger.waits(LIMITS)).toBe(false)
})

it('waits as long as it was told to, in a fast stream, too', () => {
  const { linger, pass, timers } = start()
  const limits = { ...LIMITS, ageMs: 5 }
  expect(linger.waits(limits)).toBe(true)
  linger.taken(0, limits)
  pass(1)
  linger.taken(LIMITS.bytes, limits)
  expect(linger.waits(limits)).toBe(true)
  expect(timers.map(([ms]) => ms)).toEqual([5])
})
