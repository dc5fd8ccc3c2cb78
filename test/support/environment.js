/**
 * A test that fails in the middle leaves a pipeline behind, and perhaps a transaction, which every slot that is made on that server waits
 * for: its databases go with it, so that what fails is one test and not the run.
 */
import { TestEnvironment } from 'jest-environment-node'

export default class Environment extends TestEnvironment {
  #before = new Set()

  async handleTestEvent(event) {
    const left = this.global.evertLeftDatabases ?? new Set()
    if (event.name === 'test_start') this.#before = new Set(left)
    if (event.name !== 'test_done' || event.test.errors.length === 0) return
    for (const abandon of left) {
      if (this.#before.has(abandon)) continue
      left.delete(abandon)
      await abandon().catch((error) => console.error('a database of the failed test stays:', error))
    }
  }
}
