/** The HTTP server of evert run: what machines ask of it. It serves no rows. */
import { createServer, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { EvertError } from '../base/errors.js'
import type { Logger } from '../base/logger.js'
import { type Metrics, pipelineMetrics } from './metrics.js'

export interface ListenOptions {
  readonly pipeline: string
  readonly host: string
  /** 0 takes one that is free. */
  readonly port: number
  readonly logger: Logger
}

export interface Listening {
  /** To be told of what the pipeline does. */
  readonly metrics: Metrics
  close(): void
}

/** What is answered within it is the same text: however often it is asked for, it is made once. */
const TEXT_MS = 100
/** Of whoever asks and does not read. */
const SILENCE_MS = 10_000
const MOST_CONNECTIONS = 20

/** Listens until it is closed. Error: LISTEN_FAILED. */
export async function listen({ pipeline, host, port, logger }: ListenOptions): Promise<Listening> {
  const metrics = pipelineMetrics(pipeline)
  let text: Promise<string> | null = null
  let madeMs = 0
  const metricsText = (): Promise<string> => {
    const nowMs = performance.now()
    if (text === null || nowMs - madeMs > TEXT_MS) {
      madeMs = nowMs
      text = metrics.registry.metrics()
    }
    return text
  }
  const server = createServer((request, response) => {
    const [path] = (request.url ?? '').split('?')
    if (path !== '/metrics') return answer(response, 404, 'there is /metrics here, and nothing else\n')
    if (request.method !== 'GET' && request.method !== 'HEAD') return answer(response, 405, 'GET /metrics\n')
    metricsText().then(
      (said) => answer(response, 200, said, metrics.registry.contentType),
      (error: Error) => answer(response, 500, `${error.message}\n`),
    )
  })
  server.maxConnections = MOST_CONNECTIONS
  server.maxRequestsPerSocket = 1
  server.setTimeout(SILENCE_MS)
  await bound(server, { host, port })
  server.on('error', (error) => logger.warn({}, `the HTTP server: ${error.message}`))
  const { address, port: taken } = server.address() as AddressInfo
  logger.info({ host: address, port: taken }, 'metrics are at /metrics')
  const close = (): void => {
    server.close()
    server.closeAllConnections()
  }
  return { metrics, close }
}

async function bound(server: Server, { host, port }: Pick<ListenOptions, 'host' | 'port'>): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) => {
      const message = `cannot listen on ${host}:${port}: ${cause.message}`
      reject(new EvertError('LISTEN_FAILED', { message, hint: '--listen says where', cause }))
    })
    server.listen(port, host, resolve)
  })
}

function answer(response: ServerResponse, status: number, text: string, type = 'text/plain; charset=utf-8'): void {
  response.writeHead(status, { 'content-type': type, connection: 'close' }).end(text)
}
