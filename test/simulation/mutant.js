/** `node --import ./test/simulation/mutant.js test/simulation/run.ts …` with EVERT_MUTATION runs the simulation of a broken evert. */
import { register } from 'node:module'

register('../../scripts/typescript-loader.js', import.meta.url)
register('./mutant-hooks.js', import.meta.url, { data: JSON.parse(process.env.EVERT_MUTATION) })
