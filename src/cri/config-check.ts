import { readFileSync } from 'node:fs'
import { release } from 'node:os'
import { createSecureContext } from 'node:tls'
import { describe, Fault } from '../base/fault.ts'
import { compileSeccomp, readProfile } from '../seccomp/index.ts'
import type { Configuration, HandlerSettings } from './config.ts'

const PROFILE_BYTES_MAX = 4 * 1024 * 1024

/** What is wrong with the files that a configuration names, a sentence each: certificate and key, and seccomp profiles. */
export function checkFiles(values: Configuration): string[] {
  const problems: string[] = []
  const attempt = (key: string, check: () => void): void => {
    try {
      check()
    } catch (error) {
      problems.push(`${key}: ${describe(error)}`)
    }
  }
  const { tlsCert, tlsKey } = values.stream
  if (tlsCert !== '') {
    attempt('stream.tls_cert and tls_key', () => {
      createSecureContext({ cert: readFileSync(tlsCert), key: readFileSync(tlsKey) })
    })
  }
  const handlers: [name: string, handler: HandlerSettings][] = [
    ['container', values.container],
    ...[...values.runtimeHandlers].map(([name, handler]): [string, HandlerSettings] => [
      `runtime_handlers.${name}`,
      handler,
    ]),
  ]
  for (const [name, { seccompProfile, capabilities }] of handlers) {
    if (seccompProfile === '') continue
    attempt(`${name}.seccomp_profile ${seccompProfile}`, () => {
      const section = readProfile(readProfileFile(seccompProfile), {
        capabilities,
        architecture: process.arch,
        kernel: release(),
      })
      if (section !== undefined) compileSeccomp(section, process.arch)
    })
  }
  return problems
}

/** The JSON of a profile on disk. */
export function readProfileFile(path: string): unknown {
  const text = readFileSync(path, 'utf8')
  if (text.length > PROFILE_BYTES_MAX) {
    throw new Fault('RESOURCE_EXHAUSTED', `longer than ${PROFILE_BYTES_MAX} characters`)
  }
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new Fault('INVALID_ARGUMENT', 'no valid JSON', { cause: error })
  }
}
