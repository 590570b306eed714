import { spawn } from 'node:child_process'
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { eventually } from './eventually.ts'

export async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  await new Promise((resolve) => server.close(resolve))
  return typeof address === 'object' && address !== null ? address.port : 0
}

function listens(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}

export interface DockerRegistry {
  /** `127.0.0.1:PORT`. */
  readonly host: string
  /** Where it keeps its content. */
  readonly data: string
  /** Requests that it has answered, `GET /v2/… 206` each; with `log: {}` among its settings alone. */
  readonly answers: () => string[]
  readonly stop: () => Promise<void>
}

/** Debian's docker-registry, the reference implementation, with its files below `directory`, until it is stopped. */
export async function dockerRegistry(
  directory: string,
  name: string,
  extra: Record<string, unknown> = {},
  http: Record<string, unknown> = {},
): Promise<DockerRegistry> {
  const port = await freePort()
  const data = join(directory, `registry-${name}`)
  const config = {
    version: '0.1',
    log: { level: 'error', accesslog: { disabled: true } },
    storage: { filesystem: { rootdirectory: data }, delete: { enabled: true } },
    http: { addr: `127.0.0.1:${port}`, secret: 'test', ...http },
    ...extra,
  }
  // JSON is YAML.
  const file = join(directory, `${name}.yml`)
  writeFileSync(file, JSON.stringify(config))
  const log = join(directory, `${name}.log`)
  const output = openSync(log, 'w')
  const child = spawn('docker-registry', ['serve', file], { stdio: ['ignore', output, 'ignore'] })
  closeSync(output)
  const ended = new Promise((resolve) => child.once('exit', resolve))
  await eventually('the registry listens', () => listens(port), { withinMs: 10_000, everyMs: 20 })
  const stop = async (): Promise<void> => {
    child.kill('SIGKILL')
    await ended
  }
  const answers = (): string[] =>
    // Apache's combined log format.
    [...readFileSync(log, 'utf8').matchAll(/"([A-Z]+ [^" ]+) HTTP[^"]*" ([0-9]{3}) /g)].map(
      ([, request, status]) => `${request} ${status}`,
    )
  return { host: `127.0.0.1:${port}`, data, answers, stop }
}
