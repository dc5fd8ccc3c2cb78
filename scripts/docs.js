/** Writes the reference pages of docs/ from the code; with --check it says which are stale, and exits 1. */
import './typescript.js'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const { COMMANDS } = await import('../src/cli/commands.ts')
const { OPTIONS, optionsOf, variableOf } = await import('../src/config.ts')
const { ERRORS } = await import('../src/base/errors.ts')
const { pipelineMetrics } = await import('../src/server/metrics.ts')

const DOCS = fileURLToPath(new URL('../docs/', import.meta.url))
const NOTE = '<!-- Generated from the code: npm run docs -->\n\n'

const cell = (text) => text.replaceAll('|', '\\|')

function optionsPage() {
  const options = OPTIONS.map(({ name, commands, value, default: byDefault, help, prose }) => {
    const shown = byDefault === undefined ? 'none' : `\`${byDefault}\``
    return `## ${name}

\`--${name}\`, \`${variableOf(name)}\`, \`${name}:\` in the file. ${help[0].toUpperCase()}${help.slice(1)}.

- Value: \`${value}\`
- Default: ${shown}
- Of: ${commands.map((command) => `\`evert ${command}\``).join(', ')}
${prose === undefined ? '' : `\n${prose}\n`}`
  })
  return `# Options

Every option can be given as a flag, as an environment variable, or in a YAML file (\`evert.yaml\`, or what \`--config\` names), in that
order: a flag wins. Durations have a unit (\`ms\`, \`s\`, \`m\`, \`h\`, \`d\`), sizes may have one (\`KiB\`, \`MiB\`, \`GiB\`). What is not known
is an error that names the nearest known one.

${options.join('\n')}`
}

function commandsPage() {
  const commands = COMMANDS.map(({ name, summary, prose, examples }) => {
    const rows = optionsOf(name).map(({ name: option, help, default: byDefault }) => {
      const shown = byDefault === undefined ? '' : `\`${byDefault}\``
      return `| [\`--${option}\`](options.md#${option}) | ${cell(help)} | ${shown} |`
    })
    return `## evert ${name}

${summary[0].toUpperCase()}${summary.slice(1)}.

${prose}

\`\`\`sh
${examples.join('\n')}
\`\`\`

| option | | default |
|---|---|---|
${rows.join('\n')}
`
  })
  return `# Commands

stdout is data, stderr is logs. Exit codes are those of [errors](errors.md).

${commands.join('\n')}`
}

function errorsPage() {
  const rows = Object.entries(ERRORS).map(
    ([code, { exit, retry, meaning }]) => `| \`${code}\` | ${exit} | ${retry ? 'yes' : 'no'} | ${cell(meaning)} |`,
  )
  return `# Errors

An error says what happened to which object, then what to type. What may pass by itself is tried again, with growing pauses; everything
else ends the process. Exit codes: 0 done, 1 failed (trying again will not help), 2 usage, 3 refused because data would be lost,
69 nothing answered in the first 30 seconds, or a stop hung (once it has worked, evert tries again for ever), 70 a bug in evert.

| code | exit | tried again | meaning |
|---|---|---|---|
${rows.join('\n')}
`
}

async function metricsPage() {
  const { registry } = pipelineMetrics('')
  const metrics = (await registry.getMetricsAsJSON()).filter(({ name }) => name.startsWith('evert_'))
  const labelsOf = (name) => registry.getSingleMetric(name).labelNames.map((label) => `\`${label}\``)
  const rows = metrics.map(
    ({ name, type, help }) => `| \`${name}\` | ${type} | ${labelsOf(name).join(', ')} | ${cell(help)} |`,
  )
  return `# Metrics

\`evert run --listen 9464\` serves them at \`http://127.0.0.1:9464/metrics\`, in Prometheus' text format. Each has the label \`pipeline\`. Beside them
stand those of the process (\`process_resident_memory_bytes\`, \`process_cpu_seconds_total\`, \`nodejs_eventloop_lag_seconds\`, …). They begin anew with the process.

| metric | type | labels | |
|---|---|---|---|
${rows.join('\n')}
`
}

const pages = {
  'options.md': optionsPage(),
  'commands.md': commandsPage(),
  'errors.md': errorsPage(),
  'metrics.md': await metricsPage(),
}
const stale = Object.entries(pages).filter(([file, text]) => {
  try {
    return readFileSync(DOCS + file, 'utf8') !== NOTE + text
  } catch {
    return true
  }
})
if (process.argv.includes('--check')) {
  for (const [file] of stale) console.error(`docs/${file} is stale: npm run docs`)
  process.exitCode = stale.length === 0 ? 0 : 1
} else {
  mkdirSync(DOCS, { recursive: true })
  for (const [file, text] of stale) writeFileSync(DOCS + file, NOTE + text)
}
