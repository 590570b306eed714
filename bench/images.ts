/**
 * How long it takes to pull images and unpack them: berth against containerd, podman, skopeo with umoci, and the system's own tools.
 *
 *   sudo node dist/bench/images.js [--scale 0.1] [--rounds 3] [--seconds N] [--kinds nine,one,tiny] [--compressions gzip,zstd]
 *        [--states cold,half] [--subjects berth,podman] [--containerd SOCKET] [--work DIR] [--json FILE]
 *
 * A docker-registry on 127.0.0.1 serves images made of this machine's /usr: `nine` layers (1.5 GB unpacked), `one` layer (500 MB packed),
 * and `tiny`, 20 images of 50 layers each. `--scale` shrinks them, `--work` keeps them for the next run. All subjects take turns within each
 * round, but those that the first one shows to be far behind, and the tools. `--seconds`: of each kind and state, no round begins after so many. CPU seconds are of all processes of the subject, its daemon's too; memory is the most that they had resident at one time.
 */
import { spawn, spawnSync } from 'node:child_process'
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmdirSync,
  rmSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { dockerRegistry } from '../test/lib/docker-registry.ts'
import { type BenchImage, type Compression, type Kind, makeImages } from './image-maker.ts'
import { type PullSubject, pullSubjects } from './image-subjects.ts'
import { cpuSecondsOf } from './memory.ts'
import {
  bestPeer,
  isOurs,
  leftOut,
  Measured,
  median,
  progress,
  report,
  rounds as roundsOf,
  TOOLS,
  told,
  turned,
} from './report.ts'
import { ENVIRONMENT, inWorld } from './world.ts'

const ROUNDS = 3
const COMMAND_LIMIT_MS = 300_000
const SAMPLE_MS = 20

/** A peer that takes so many times what the best one does in the first round is measured once: it decides nothing, and takes most of the bench's time. */
const FAR_BEHIND = 2

interface Cost {
  readonly seconds: number
  readonly cpuSeconds: number
  readonly memoryBytes: number
}

/** Counts the time of all that ran in it, whatever has ended since. */
const GROUP = '/sys/fs/cgroup/measured'
let measurements = 0

async function measure(commands: (readonly string[])[], subject: PullSubject): Promise<Cost> {
  const group = `${GROUP}-${measurements++}`
  mkdirSync(group)
  const errorsPath = join(tmpdir(), 'errors')
  const errors = openSync(errorsPath, 'w+')
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
        killSignal: 'SIGKILL',
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
    closeSync(errors)
    rmSync(errorsPath, { force: true })
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

async function compare(
  measured: Measured,
  title: string,
  state: string,
  images: readonly BenchImage[],
  subjects: readonly PullSubject[],
  limits: { readonly count: number; readonly seconds: number },
): Promise<void> {
  let left = [...subjects]
  for (const round of roundsOf(`images: ${title}`, { ...limits, warmUp: 0 })) {
    for (const subject of turned(left, round)) {
      progress(`images: ${title}: ${subject.name}`, { done: round, of: limits.count })
      try {
        subject.reset()
        if (state === 'half') await measure(subject.pull(images, 'half'), subject)
        // What others have left to write is not this one's.
        await run('sync')
        const cost = await measure(subject.pull(images, 'all'), subject)
        measured.add(title, 's', subject.name, cost.seconds)
        measured.add(`${title}: CPU`, 's', subject.name, cost.cpuSeconds)
        measured.add(`${title}: memory`, 'MB', subject.name, cost.memoryBytes / 1e6)
      } catch (error) {
        if (subject.name === 'berth') throw error
        leftOut(`${subject.name}, ${title}`, error)
        for (const work of [title, `${title}: CPU`, `${title}: memory`])
          measured.drop(work, subject.name)
        left.splice(left.indexOf(subject), 1)
      } finally {
        subject.reset()
      }
    }
    if (round === 0) left = left.filter(({ name }) => !isMeasuredOnce(measured, title, name))
  }
}

function isMeasuredOnce(measured: Measured, title: string, name: string): boolean {
  const row = measured.rows.find(({ work }) => work === title)
  const best = row && bestPeer(row)
  if (!best || isOurs(name)) return false
  // Nobody's peer, as a measure exact enough.
  if (name === TOOLS) return true
  return median(row.of[name] ?? []) > FAR_BEHIND * best.value
}

function run(program: string): Promise<void> {
  return new Promise((resolve) => spawn(program).once('exit', () => resolve()))
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      scale: { type: 'string', default: '1' },
      rounds: { type: 'string', default: String(ROUNDS) },
      seconds: { type: 'string', default: 'Infinity' },
      kinds: { type: 'string', default: 'nine,one,tiny' },
      compressions: { type: 'string', default: 'gzip,zstd' },
      states: { type: 'string', default: 'cold,half' },
      subjects: { type: 'string' },
      containerd: { type: 'string' },
      work: { type: 'string' },
      json: { type: 'string' },
    },
  })
  const scale = Number(values.scale)
  const limits = { count: Number(values.rounds), seconds: Number(values.seconds) }
  const directory = mkdtempSync(join(tmpdir(), 'images-'))
  // What is made in it is spread over the disk, as ext4 does it with what is made in the root: a pull does not meet what another has left.
  spawnSync('chattr', ['+T', directory])
  const work = values.work ?? join(directory, 'work')
  mkdirSync(work, { recursive: true })
  const registry = await dockerRegistry(work, 'bench')
  const measured = new Measured('images')
  const subjects = pullSubjects(directory, registry.host, values.containerd).filter(
    ({ name, missing }) => {
      if (
        values.subjects !== undefined &&
        !values.subjects.split(',').some((s) => name.includes(s))
      )
        return false
      if (missing !== undefined) leftOut(name, missing)
      return missing === undefined
    },
  )
  try {
    for (const kind of values.kinds.split(',') as Kind[]) {
      for (const by of values.compressions.split(',') as Compression[]) {
        progress(`images: ${kind} with ${by} is made`)
        const images = await makeImages(kind, by, {
          directory: join(work, 'layers'),
          registry: `http://${registry.host}`,
          scale,
        })
        const layers = images.reduce((sum, { blobs }) => sum + blobs.length, 0)
        const megabytes = images.reduce((sum, { layerBytes }) => sum + layerBytes, 0) / 1e6
        told(
          `${kind}, ${by}: ${images.length} images, ${layers} layers, ${megabytes.toFixed(1)} MB packed`,
        )
        for (const state of values.states.split(',')) {
          if (kind === 'one' && state === 'half') continue
          const size = scale === 1 ? '' : `, ${scale} of the size`
          const title = `${kind}, ${by}, ${state === 'half' ? 'half of the layers there' : 'cold'}${size}`
          await compare(measured, title, state, images, subjects, limits)
        }
      }
    }
  } finally {
    report(measured.rows, values.json)
    for (const subject of subjects) await subject.stop?.()
    await registry.stop()
    rmSync(directory, { recursive: true, force: true, maxRetries: 3 })
  }
}

await inWorld(import.meta.url, main)
