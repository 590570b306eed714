import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { readlinkSync } from 'node:fs'
import { connect } from 'node:net'
import { fileURLToPath } from 'node:url'
import * as assert from 'uvu/assert'
import { eventually } from './eventually.ts'

const INSIDE = 'BERTH_TEST_IN_NETWORK_NAMESPACE'

/** Runs a test file again in a network namespace of its own, which plays the host: what is made there vanishes with it. */
export function enterNetworkNamespace(url: string): void {
  if (process.env[INSIDE] === undefined) {
    const { status } = spawnSync('unshare', ['-n', process.execPath, fileURLToPath(url)], {
      env: { ...process.env, [INSIDE]: readlinkSync('/proc/self/ns/net') },
      stdio: 'inherit',
    })
    process.exit(status ?? 1)
  }
  // Whatever fails before this line, the machine's own network must never be the one that is changed.
  assert.is.not(process.env[INSIDE], readlinkSync('/proc/self/ns/net'))
  execFileSync('ip', ['link', 'set', 'lo', 'up'])
}

/** A network namespace as a container has it: a path that opens as long as its process lives. */
export class Namespace {
  readonly process: ChildProcess
  readonly #servers: ChildProcess[] = []

  /** `flags` of unshare(1): '-Ur' gives it to a user namespace of its own. */
  constructor(flags: readonly string[] = []) {
    const args = [...flags, '-n', 'sleep', 'infinity']
    this.process = spawn('unshare', args, { stdio: 'ignore' })
  }

  async open(): Promise<this> {
    await eventually(
      'its own namespace',
      () => readlinkSync(this.path) !== readlinkSync('/proc/self/ns/net'),
    )
    return this
  }

  get path(): string {
    return `/proc/${this.process.pid}/ns/net`
  }

  run(...command: string[]): string {
    return execFileSync('nsenter', [`--net=${this.path}`, ...command], { encoding: 'utf8' })
  }

  /** A server in it that greets every client. */
  async serve(port: number): Promise<ChildProcess> {
    const script = `require('net').createServer(c=>{c.end('from the container')}).listen(${port},()=>console.log('up'))`
    const server = spawn('nsenter', [`--net=${this.path}`, process.execPath, '-e', script])
    this.#servers.push(server)
    await new Promise((resolve) => server.stdout.once('data', resolve))
    return server
  }

  async end(): Promise<void> {
    for (const server of this.#servers) server.kill()
    if (this.process.signalCode !== null) return
    const ended = new Promise((resolve) => this.process.once('exit', resolve))
    this.process.kill('SIGKILL')
    await ended
  }
}

/** What a server says. */
export function hear(host: string, port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, timeout: 5000 })
    let said = ''
    socket.on('data', (data) => {
      said += data
    })
    socket.on('error', reject)
    socket.on('timeout', () => socket.destroy(new Error(`no answer from ${host}:${port}`)))
    socket.on('close', () => resolve(said))
  })
}
