/** A module of its own, so that loading it does not load all of the client library. */
export { compressionsAlgorithms } from '@platformatic/kafka'
