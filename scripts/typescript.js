/** `node --import ./scripts/typescript.js file.ts` runs a TypeScript file. */
import { register } from 'node:module'

register('./typescript-loader.js', import.meta.url)
