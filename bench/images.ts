/**
 * How long it takes to pull images and unpack them: berth against containerd, podman, skopeo with umoci, and the system's own tools.
 *
 *   sudo node dist/bench/images.js [--scale 0.1] [--rounds 3] [--kinds nine,one,tiny] [--compressions gzip,zstd]
 *        [--states cold,half] [--subjects berth,podman] [--containerd SOCKET] [--work DIR]
 *
 * A docker-registry on 127.0.0.1 serves images made of this machine's /usr: `nine` layers (1.5 GB unpacked), `one` layer (500 MB packed),
 * and `tiny`, 20 images of 50 layers each. `--scale` shrinks them, `--work` keeps them for the next run. All subjects take turns within each
 * round. CPU seconds are of all processes of the subject, its daemon's too; memory is the most that they had resident at one time.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import {
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { type BenchImage, type Compression, type Kind, makeImages } from './image-maker.ts'
import { type PullSubject, pullSubjects } from './image-subjects.ts'

const ROUNDS = 3
const COMMAND_LIMIT_MS = 300_000
const SAMPLE_MS = 20

/** As for a person's own call: with NODE_EXTRA_CA_CERTS, for one, Node reads a hundred certificates before it runs anything. */
const ENVIRONMENT = Object.fromEntries(
  ['PATH', 'HOME', 'LANG', 'TERM', 'TMPDIR'].flatMap((name) => {
    const value = process.env[name]
    return value === undefined ? [] : [[name, value]]
  }),
)

interface Cost {
  readonly seconds: number
  readonly cpuSeconds: number
  readonly memoryBytes: number
}

/** cgroup v2, on a hybrid host too: it counts the time of all that ran in a group, whatever has ended since. */
const GROUPS = ['/sys/fs/cgroup/unified', '/sys/fs/cgroup'].find((path) => {
  try {
    readFileSync(join(path, 'cgroup.procs'))
    return readdirSync(path).includes('cgroup.controllers')
  } catch {
    return false
  }
})

async function measure(commands: (readonly string[])[], subject: PullSubject): Promise<Cost> {
  if (GROUPS === undefined) throw new Error('there is no cgroup v2 hierarchy')
  const group = join(GROUPS, `berth-bench-${process.pid}`)
  mkdirSync(group, { recursive: true })
  const errors = openSync(join(tmpdir(), `berth-bench-${process.pid}.errors`), 'w+')
  let memoryBytes = 0
  const daemon = subject.daemon?.()
  const sample = (): void => {
    const pids = readFileSync(join(group, 'cgroup.procs'), 'utf8').split('\n').filter(Boolean)
    const all = daemon === undefined ? pids : [...pids, String(daemon)]
    memoryBytes = Math.max(
      memoryBytes,
      all.reduce((sum, pid) => sum + residentBytes(pid), 0),
    )
  }
  const timer = setInterval(sample, SAMPLE_MS)
  const daemonBefore = daemon === undefined ? 0 : cpuSecondsOf(daemon)
  const begin = performance.now()
  try {
    for (const command of commands) {
      const script = 'echo $$ > "$0" && exec "$@"'
      const child = spawn('sh', ['-c', script, join(group, 'cgroup.procs'), ...command], {
        stdio: ['ignore', 'ignore', errors],
        env: ENVIRONMENT,
        timeout: COMMAND_LIMIT_MS,
      })
      const status = await new Promise((resolve) => child.once('exit', resolve))
      if (status !== 0) {
        const text = readFileSync(`/proc/self/fd/${errors}`, 'utf8').trim().slice(-500)
        throw new Error(`${command.slice(0, 3).join(' ')} …: ${text}`)
      }
    }
    const seconds = (performance.now() - begin) / 1000
    const usage = /^usage_usec (\d+)$/m.exec(readFileSync(join(group, 'cpu.stat'), 'utf8'))?.[1]
    const daemonSeconds = daemon === undefined ? 0 : cpuSecondsOf(daemon) - daemonBefore
    return { seconds, cpuSeconds: Number(usage) / 1e6 + daemonSeconds, memoryBytes }
  } finally {
    clearInterval(timer)
    rmSync(join(tmpdir(), `berth-bench-${process.pid}.errors`), { force: true })
    for (let i = 0; i < 50; i++) {
      try {
        rmdirSync(group)
        break
      } catch {
        // The last process is still on its way out.
        await new Promise((resolve) => setTimeout(resolve, 100))
      }
    }
  }
}

/** Anonymous memory and what is mapped of files; 0 for a process that has ended. */
function residentBytes(pid: string): number {
  try {
    const text = readFileSync(`/proc/${pid}/status`, 'utf8')
    return Number(/^VmRSS:\s+(\d+) kB$/m.exec(text)?.[1] ?? 0) * 1024
  } catch {
    return 0
  }
}

/** USER_HZ is 100 on every Linux that Node runs on. */
function cpuSecondsOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
  return (Number(fields[11]) + Number(fields[12])) / 100
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
}

async function compare(
  title: string,
  state: string,
  images: readonly BenchImage[],
  subjects: readonly PullSubject[],
  rounds: number,
): Promise<void> {
  const measured = subjects.map((subject) => ({ subject, costs: [] as Cost[], failure: '' }))
  for (let i = 0; i < rounds; ++i) {
    for (const one of measured) {
      if (one.failure !== '') continue
      const { subject } = one
      try {
        subject.reset()
        if (state === 'half') await measure(subject.pull(images, 'half'), subject)
        // What others have left to write is not this one's.
        await run('sync')
        one.costs.push(await measure(subject.pull(images, 'all'), subject))
      } catch (error) {
        one.failure = error instanceof Error ? error.message : String(error)
      } finally {
        subject.reset()
      }
    }
  }
  const middle = (costs: readonly Cost[]): number => median(costs.map(({ seconds }) => seconds))
  const berth = middle(measured.find(({ subject }) => subject.name === 'berth')?.costs ?? [])
  const bytes = images.reduce((sum, { layerBytes }) => sum + layerBytes, 0)
  process.stdout.write(`\n${title}, ${(bytes / 1e6).toFixed(0)} MB, ${rounds} rounds\n`)
  process.stdout.write(row('', 'median', 'fastest', 'CPU', 'memory', 'berth is'))
  for (const { subject, costs, failure } of measured) {
    if (failure !== '') {
      process.stdout.write(`  ${subject.name}: failed: ${failure}\n`)
      continue
    }
    const cpu = median(costs.map(({ cpuSeconds }) => cpuSeconds))
    const memory = median(costs.map(({ memoryBytes }) => memoryBytes))
    process.stdout.write(
      row(
        subject.name,
        `${middle(costs).toFixed(2)} s`,
        `${Math.min(...costs.map(({ seconds }) => seconds)).toFixed(2)} s`,
        `${cpu.toFixed(2)} s`,
        `${(memory / 1e6).toFixed(0)} MB`,
        `${(berth / middle(costs)).toFixed(2)}x`,
      ),
    )
  }
}

function row(name: string, ...columns: string[]): string {
  return `  ${name.padEnd(18)}${columns.map((column) => column.padStart(12)).join('')}\n`
}

function run(program: string): Promise<void> {
  return new Promise((resolve) => spawn(program).once('exit', () => resolve()))
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  await new Promise((resolve) => server.close(resolve))
  return typeof address === 'object' && address !== null ? address.port : 0
}

async function startRegistry(directory: string): Promise<{ host: string; process: ChildProcess }> {
  const port = await freePort()
  const host = `127.0.0.1:${port}`
  const config = join(directory, 'registry.yml')
  writeFileSync(
    config,
    `version: 0.1\nlog: {level: error}\nstorage:\n  filesystem: {rootdirectory: ${directory}/registry}\nhttp: {addr: ${host}}\n`,
  )
  const child = spawn('docker-registry', ['serve', config], { stdio: 'ignore' })
  const failed = new Promise<never>((_, reject) => child.once('error', reject))
  for (let i = 0; i < 100; i++) {
    const isUp = await Promise.race([
      failed,
      fetch(`http://${host}/v2/`).then(
        ({ ok }) => ok,
        () => false,
      ),
    ])
    if (isUp) return { host, process: child }
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  child.kill()
  throw new Error('docker-registry does not answer')
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      scale: { type: 'string', default: '1' },
      rounds: { type: 'string', default: String(ROUNDS) },
      kinds: { type: 'string', default: 'nine,one,tiny' },
      compressions: { type: 'string', default: 'gzip,zstd' },
      states: { type: 'string', default: 'cold,half' },
      subjects: { type: 'string' },
      containerd: { type: 'string' },
      work: { type: 'string' },
    },
  })
  const scale = Number(values.scale)
  const rounds = Number(values.rounds)
  const directory = mkdtempSync(join(tmpdir(), 'berth-bench-'))
  const work = values.work ?? join(directory, 'work')
  mkdirSync(work, { recursive: true })
  const registry = await startRegistry(work)
  const subjects = pullSubjects(directory, registry.host, values.containerd).filter(
    ({ name, missing }) => {
      if (
        values.subjects !== undefined &&
        !values.subjects.split(',').some((s) => name.includes(s))
      )
        return false
      if (missing !== undefined) process.stdout.write(`skipped ${name}: ${missing}\n`)
      return missing === undefined
    },
  )
  try {
    for (const kind of values.kinds.split(',') as Kind[]) {
      for (const by of values.compressions.split(',') as Compression[]) {
        const images = await makeImages(kind, by, {
          directory: join(work, 'layers'),
          registry: `http://${registry.host}`,
          scale,
        })
        for (const state of values.states.split(',')) {
          if (kind === 'one' && state === 'half') continue
          const title = `${kind}, ${by}, ${state === 'half' ? 'half of the layers there' : 'cold'}`
          await compare(title, state, images, subjects, rounds)
        }
      }
    }
  } finally {
    for (const subject of subjects) subject.stop?.()
    registry.process.kill()
    rmSync(directory, { recursive: true, force: true, maxRetries: 3 })
  }
}

await main()
