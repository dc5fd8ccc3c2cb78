#!/usr/bin/env node
import { setFlagsFromString } from 'node:v8'

// The young generation stays as small as it starts: no object is made per row, and memory that V8 would take for them is wasted.
setFlagsFromString('--semi-space-growth-factor=1')
const { main } = await import('../dist/js/main.js')

process.exitCode = await main(process.argv.slice(2))
