#!/usr/bin/env node
import './v8-flags.js'

const { main } = await import('../dist/js/main.js')

process.exitCode = await main(process.argv.slice(2))
