import { spawn } from 'node:child_process'
import {
  closeSync,
  existsSync,
  openSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { ownCaller } from '../../src/kernel/caller.ts'
import type { CreateRequest } from '../../src/oci/create.ts'
import { exampleSpec } from '../../src/oci/spec.ts'
import type { Spec } from '../../src/spec/runtime.ts'
import { finish, type Result } from './berth.ts'
import { busyboxRoot } from './busybox.ts'
import { type Front, frontMode, frontOfFile } from './front.ts'
import { REPOSITORY } from './images.ts'
import { cgroupRoot } from './needs.ts'
import { processesOf, testDirectory, traces } from './traces.ts'

const OCI_PROGRAM = join(REPOSITORY, 'bin/berth-oci.cjs')

/** A program with the command line of berth-oci. */
export function ociProgram(): string {
  return frontOfFile()?.program ?? OCI_PROGRAM
}

interface Options {
  readonly input?: string
  readonly env?: NodeJS.ProcessEnv
}

/** Changes of the example configuration. */
export type Patch = (spec: Spec & { process: object; linux: object }) => void

/** `berth-oci` as a black box, on a state directory of its own, with bundles whose root is a busybox. */
export class Oci {
  readonly directory = testDirectory()
  readonly root = join(this.directory, 'state')
  readonly #group = `/berth-oci-test-${process.pid}`
  /** Begins every command line. */
  readonly command = [
    frontOfFile() ? '/usr/bin/env' : process.execPath,
    ociProgram(),
    ...['--root', this.root],
  ] as const

  /** Where a container's cgroup is, on the host. */
  cgroup(id: string): string {
    return join(cgroupRoot(), this.#group, id)
  }

  /** A new bundle whose process is the shell script. */
  bundle(name: string, script: string, patch: Patch = () => {}): string {
    const bundle = join(this.directory, name)
    busyboxRoot(join(bundle, 'rootfs'))
    this.configure(bundle, name, script, patch)
    return bundle
  }

  configure(bundle: string, name: string, script: string, patch: Patch = () => {}): void {
    const spec = exampleSpec()
    assert.ok(spec.process && spec.linux)
    spec.process.args = ['sh', '-c', script]
    spec.process.terminal = false
    spec.linux.cgroupsPath = `${this.#group}/${name}`
    patch(spec as Parameters<Patch>[0])
    writeFileSync(join(bundle, 'config.json'), JSON.stringify(spec))
  }

  /** Runs a command to its end, and to that of whatever holds its output. */
  run(args: readonly string[], options: Options = {}): Promise<Result> {
    const [node, ...first] = this.command
    const { input, env = process.env } = options
    const child = spawn(node, [...first, ...args], { stdio: 'pipe', env })
    return finish(child, `berth-oci ${args.join(' ')}`, input === undefined ? {} : { input })
  }

  async ok(args: readonly string[], options: Options = {}): Promise<string> {
    const { code, stdout, stderr } = await this.run(args, options)
    assert.is(code, 0, `berth-oci ${args.join(' ')}: exit code ${code}\n${stderr}${stdout}`)
    return stdout
  }

  async refused(args: readonly string[], message: RegExp): Promise<void> {
    const { code, stderr } = await this.run(args)
    assert.is.not(code, 0, `berth-oci ${args.join(' ')} was not refused`)
    assert.match(stderr, message)
  }

  /** What a container that was made by `create` has written so far. */
  output(id: string): string {
    return readFileSync(join(this.directory, `${id}.out`), 'utf8')
  }

  /** `create`, with stdout and stderr in a file, so that nobody waits for the container. */
  async create(
    id: string,
    args: readonly string[] = [],
    globals: readonly string[] = [],
    env: NodeJS.ProcessEnv = process.env,
  ): Promise<Result> {
    const out = openSync(join(this.directory, `${id}.out`), 'w')
    try {
      const words = [...globals, 'create', '--bundle', join(this.directory, id), ...args, id]
      const [node, ...first] = this.command
      const child = spawn(node, [...first, ...words], { stdio: ['ignore', out, out], env })
      const code = await new Promise<number>((resolve, reject) => {
        child.once('error', reject)
        child.once('exit', (status) => resolve(status ?? 128))
      })
      return { code, stdout: '', stderr: this.output(id) }
    } finally {
      closeSync(out)
    }
  }

  async status(id: string): Promise<string> {
    return (JSON.parse(await this.ok(['state', id])) as { status: string }).status
  }

  async destroy(): Promise<void> {
    if (existsSync(this.root)) {
      for (const id of (await this.ok(['list', '--quiet'])).split('\n').filter(Boolean)) {
        await this.ok(['delete', '--force', id])
      }
    }
    if (existsSync(this.cgroup(''))) rmdirSync(this.cgroup(''))
  }

  erase(): void {
    for (const pid of processesOf([this.directory])) process.kill(pid, 'SIGKILL')
    rmSync(this.directory, { recursive: true, force: true, maxRetries: 3 })
  }
}

/** What `create --bundle BUNDLE ID` asks for, to be done in this process. */
export function creation(root: string, bundle: string, id: string): CreateRequest {
  return {
    ...{
      caller: ownCaller(),
      root,
      bundle,
      id,
      cgroups: 'cgroupfs',
      keepKeyring: true,
      foreground: false,
    },
    ...{ consoleSocket: undefined, pidFile: join(bundle, 'pid'), notify: undefined },
    ...{ preserve: 0, env: [], warn: () => {} },
  }
}

/** One for all claims of a file; its last claim is `test('nothing is left behind', nothingIsLeft)`. */
export function ociOfFile(): { oci: Oci; nothingIsLeft: () => Promise<void> } {
  const front = frontOfFile([])
  const oci = new Oci()
  const clean = traces({ roots: [oci.directory] })
  return {
    oci,
    nothingIsLeft: async () => {
      try {
        await oci.destroy()
        if (front) await endFront(front)
        await clean()
      } finally {
        oci.erase()
      }
    },
  }
}

/** These are done by a daemon; the others (docs/native.md) are left to Node. */
const DONE_BY_DAEMON = /\b(create|run|start|state|kill|delete|exec|list|pause|resume|update) /

/** Streams of the caller's own, which no other process can open: with these Node is asked (docs/oci.md). */
const OF_THE_CALLER = / (\/dev\/(stdin|fd\/)|\/proc\/self\/fd\/|--resources - )/

/** Fails where Node has done what the daemon should have; `apart` containers are those that an engine makes in a mount namespace of their own, `failed` those whose program cannot be executed: a start's refusal is read by Node. */
export async function endFront(front: Front, { apart = 0, failed = 0 } = {}): Promise<void> {
  const left = front
    .leftToNode()
    .filter((line) => DONE_BY_DAEMON.test(`${line} `) && !OF_THE_CALLER.test(`${line} `))
  await front.destroy()
  if (frontMode() === 'alone') return
  const ids = new Set(left.map((line) => line.split(' ').at(-1)))
  assert.ok(ids.size <= apart + failed, `left to Node: ${left.join('\n')}`)
}
