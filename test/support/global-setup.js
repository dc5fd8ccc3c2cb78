/** Jest runs this outside its own module system: the TypeScript behind it is loaded by Node's hooks. */
import '../../scripts/typescript.js'

export default async function setup() {
  const servers = await import('./shared-servers.ts')
  globalThis.evertServers = servers
  await servers.start()
}
