import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { readFileIfAny } from '../../src/base/file.ts'
import { REPOSITORY } from './images.ts'
import { processesOf, testDirectory } from './traces.ts'

/** How a file's `berth` and `berth-oci` are called: undefined is Node itself. Set before the libraries are imported. */
export function frontMode(): 'daemon' | 'alone' | undefined {
  const mode = process.env['BERTH_TEST_FRONT']
  return mode === 'daemon' || mode === 'alone' ? mode : undefined
}

/** native/front as an engine calls it, with a state of its own and, when started, a daemon there; and which calls it has left to Node. */
export class Front {
  readonly directory: string
  readonly root: string
  readonly state: string
  /** A program with the command line of berth-oci. */
  readonly program: string
  /** berth itself, which finds its Node at `path`. */
  readonly berth: string
  readonly path: string
  readonly #log: string
  #daemon: ChildProcess | undefined

  /** With directories of its own, or those of somebody else. */
  constructor(place?: { directory: string; root: string; state: string }) {
    this.directory = place?.directory ?? testDirectory()
    const at = (name: string) => join(this.directory, name)
    this.root = place?.root ?? at('root')
    this.state = place?.state ?? at('state')
    this.program = at('runtime')
    this.berth = at('berth')
    this.path = `${at('bin')}:${process.env['PATH']}`
    this.#log = at('node.log')
    mkdirSync(at('bin'), { recursive: true })
    // BERTH_TEST_PROGRAM: a build with sanitizers (scripts/sanitize.ts).
    const program =
      process.env['BERTH_TEST_PROGRAM'] ?? join(REPOSITORY, 'build/Release/berth-front')
    for (const name of ['berth', 'berth-oci']) symlinkSync(program, at(name))
    script(at('bin/node'), `echo "$*" >>${this.#log}\nexec ${process.execPath} "$@"`)
    const path = `PATH=${at('bin')}:\${PATH:-/usr/sbin:/usr/bin:/sbin:/bin}`
    script(this.program, `${path} BERTH_STATE=${this.state} exec ${at('berth-oci')} "$@"`)
  }

  get pid(): number {
    return this.#daemon?.pid ?? 0
  }

  /** Starts the daemon, by the command that is given to `prefix`, and waits until it takes calls. */
  start(prefix: readonly string[] = []): void {
    const at = (name: string) => join(this.directory, name)
    writeFileSync(at('config.toml'), '[stream]\naddress = "127.0.0.1"\nport = 0\n')
    const [program = '', ...args] = [
      ...[...prefix, process.execPath, join(REPOSITORY, 'bin/berth.cjs')],
      ...['--root', this.root, '--state', this.state, 'serve'],
      ...['--config', at('config.toml'), '--socket', at('cri.sock')],
    ]
    this.#daemon = spawn(program, args, { stdio: ['ignore', 'ignore', 'inherit'] })
    const isThere = `for i in $(seq 300); do test -S ${this.state}/front.sock && exit; sleep 0.1; done; exit 1`
    execFileSync('sh', ['-c', isThere], { stdio: 'inherit' })
  }

  /** The command lines that Node has done since the last time. */
  leftToNode(): string[] {
    const lines = (readFileIfAny(this.#log) ?? '').split('\n').filter(Boolean)
    rmSync(this.#log, { force: true })
    return lines.map((line) => line.replace(/^-- \S+ /, ''))
  }

  async stop(): Promise<void> {
    const daemon = this.#daemon
    this.#daemon = undefined
    if (daemon?.exitCode !== null || daemon.signalCode !== null) return
    const ended = new Promise((resolve) => daemon.once('exit', resolve))
    daemon.kill('SIGTERM')
    await ended
    assert.is(daemon.exitCode, 0, 'the daemon ends in order')
  }

  async destroy(): Promise<void> {
    await this.stop()
    for (const pid of processesOf([this.directory])) process.kill(pid, 'SIGKILL')
    rmSync(this.directory, { recursive: true, force: true, maxRetries: 3 })
  }
}

function script(path: string, text: string): void {
  writeFileSync(path, `#!/bin/sh\n${text}\n`, { mode: 0o755 })
}

let ofFile: Front | undefined

/** That of a file which runs in one of the modes; in the mode `daemon` it is started. */
export function frontOfFile(prefix?: readonly string[]): Front | undefined {
  if (!frontMode()) return undefined
  ofFile ??= new Front()
  if (frontMode() === 'daemon' && prefix && ofFile.pid === 0) ofFile.start(prefix)
  return ofFile
}
