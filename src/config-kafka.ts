/** How to speak to the brokers: the part of the configuration that every command with a log has. */
import * as z from 'zod'
import { flag, text } from './base/option-values.js'

const KAFKA = ['run', 'status', 'snapshot', 'verify', 'drop', 'tail', 'schema'] as const

export const KAFKA_OPTIONS = [
  {
    name: 'kafka-tls',
    commands: KAFKA,
    value: 'true | false',
    schema: flag,
    default: false,
    boolean: true,
    help: 'speak TLS to the brokers',
  },
  {
    name: 'kafka-ca-file',
    commands: KAFKA,
    value: 'path',
    schema: text,
    help: 'certificate authority of the brokers, PEM (implies --kafka-tls)',
  },
  {
    name: 'kafka-cert-file',
    commands: KAFKA,
    value: 'path',
    schema: text,
    help: 'client certificate, PEM (implies --kafka-tls)',
  },
  { name: 'kafka-key-file', commands: KAFKA, value: 'path', schema: text, help: 'key of the client certificate, PEM' },
  {
    name: 'kafka-sasl-mechanism',
    commands: KAFKA,
    value: 'PLAIN | SCRAM-SHA-256 | SCRAM-SHA-512 | OAUTHBEARER',
    schema: z.enum(['PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512', 'OAUTHBEARER']),
    help: 'how to authenticate to the brokers',
  },
  { name: 'kafka-username', commands: KAFKA, value: 'text', schema: text, help: 'SASL user' },
  {
    name: 'kafka-password',
    commands: KAFKA,
    value: 'text',
    schema: text,
    secret: true,
    help: 'SASL password; better given as EVERT_KAFKA_PASSWORD',
  },
  {
    name: 'kafka-token',
    commands: KAFKA,
    value: 'text',
    schema: text,
    secret: true,
    help: 'OAuth bearer token; better given as EVERT_KAFKA_TOKEN, and only to what ends before the token does',
  },
  {
    name: 'kafka-token-file',
    commands: KAFKA,
    value: 'path',
    schema: text,
    help: 'file with the OAuth bearer token, read again before the token expires',
  },
] as const
