/** Option values: from text, or a YAML value, to what the program uses. */
import * as z from 'zod'

export const text = z.coerce.string().min(1)
export const flag = z.union([
  z.boolean(),
  z.enum(['true', 'false', '1', '0']).transform((value) => value === 'true' || value === '1'),
])
export const whole = (least: number, most: number): z.ZodType<number> => z.coerce.number().int().min(least).max(most)

const UNITS_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }
export const duration = z.coerce.string().transform((value, context) => {
  const match = /^(\d+)(ms|s|m|h|d)$/.exec(value)
  if (match !== null) return Number(match[1]) * (UNITS_MS[match[2] ?? ''] ?? 1)
  context.addIssue({ code: 'custom', message: 'a duration is a number with ms, s, m, h or d, such as 15m' })
  return z.NEVER
})

const UNITS_BYTES: Readonly<Record<string, number>> = { '': 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 }
export const bytes = z.coerce.string().transform((value, context) => {
  const match = /^(\d+) ?(KiB|MiB|GiB|)$/.exec(value)
  if (match !== null) return Number(match[1]) * (UNITS_BYTES[match[2] ?? ''] ?? 1)
  context.addIssue({ code: 'custom', message: 'a size is a number of bytes, or one with KiB, MiB or GiB' })
  return z.NEVER
})

export const retention = z.coerce.string().transform((value, context) => {
  if (value === 'compact' || value === 'forever') return value
  const ms = duration.safeParse(value)
  if (ms.success) return { ms: ms.data }
  context.addIssue({ code: 'custom', message: 'one of compact, forever, or a duration such as 7d' })
  return z.NEVER
})

const POSITION = /^[0-9a-f]{16}-[0-9a-f]{8}$/
export const startingPoint = z.union([
  z.enum(['beginning', 'now']),
  z.string().regex(POSITION, 'beginning, now, or a position: 16 hex digits, -, 8 hex digits'),
])

export const address = z.coerce.string().transform((value, context) => {
  const { host = '127.0.0.1', port } = /^(?:(?<host>\[[^\]]+\]|[^:[\]]+):)?(?<port>\d{1,5})$/.exec(value)?.groups ?? {}
  if (port !== undefined && Number(port) <= 65_535) return { host: host.replace(/^\[|\]$/g, ''), port: Number(port) }
  context.addIssue({ code: 'custom', message: 'a port, such as 9464, or an address and a port, such as 0.0.0.0:9464' })
  return z.NEVER
})

/** Of 1. */
export const share = z.coerce.string().transform((value, context) => {
  const percent = Number(/^(\d+(?:\.\d+)?)%$/.exec(value)?.[1])
  if (percent > 0 && percent <= 100) return percent / 100
  context.addIssue({ code: 'custom', message: 'a share is a number of percent, such as 1%' })
  return z.NEVER
})
