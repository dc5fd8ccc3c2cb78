/** Stops what global-setup started. */
export default async function teardown() {
  await globalThis.evertServers?.stop()
}
