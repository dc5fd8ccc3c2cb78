/** Table statements: how rows of a published table are locked and copied. Of a parent table only its own rows are meant. */
import { type PublishedTable, qualifiedName } from './catalog.js'
import { quoteIdentifier } from './sql.js'

function fromOf({ relation, partitioned }: PublishedTable): string {
  return `${partitioned ? '' : 'only '}${qualifiedName(relation)}`
}

/** LOCK TABLE would ask for a right on the whole table where rights on columns are enough. */
export function lockStatement(table: PublishedTable): string {
  const columns = table.relation.columns.slice(0, 1).map(({ name }) => quoteIdentifier(name))
  return `select ${columns.join()} from ${fromOf(table)} limit 0`
}

/** The columns and rows that the publication publishes, and no others; of those the ones that fulfil the conditions. `end` follows them. */
export function copyStatement(table: PublishedTable, conditions: readonly string[], end = ''): string {
  const columns = table.relation.columns.map(({ name }) => quoteIdentifier(name)).join(', ')
  const all = [...(table.rowFilter === null ? [] : [table.rowFilter]), ...conditions]
  const where = all.length === 0 ? '' : ` where ${all.join(' and ')}`
  return `copy (select ${columns} from ${fromOf(table)}${where}${end}) to stdout`
}
