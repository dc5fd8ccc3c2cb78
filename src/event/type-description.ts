/** Type description: what a type that is not built in is made of, as the catalog says. Plain data: progress and the schema topic keep it. */
import * as z from 'zod'

const attribute = z.object({ name: z.string(), typeOid: z.number() })

const typeDescription = z.discriminatedUnion('is', [
  z.object({ is: z.literal('domain'), base: z.number() }),
  z.object({ is: z.literal('array'), element: z.number(), delimiter: z.string() }),
  z.object({
    is: z.literal('composite'),
    attributes: z.array(attribute),
    /** True where an attribute was dropped at some time: then older values are not the first fields of newer ones. */
    dropped: z.boolean(),
  }),
  z.object({ is: z.literal('hstore') }),
])

/** By type OID; whatever is not here is its Postgres text. */
export const typeDescriptions = z.record(z.string(), typeDescription)

export type TypeDescription = z.infer<typeof typeDescription>
export type TypeDescriptions = Readonly<Record<string, TypeDescription>>
