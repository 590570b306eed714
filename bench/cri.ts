/**
 * How long the calls of the kubelet take, over the socket: `berth serve`, which is started here on roots of its own, against any other runtime.
 *
 *   sudo node dist/bench/cri.js [--peer NAME=SOCKET[,HANDLER]]… [--rounds N] [--pods N] [--image REF]
 *
 * All runtimes use the networks of /etc/cni/net.d and pull the image by themselves. They take turns within each round, each round beginning with
 * another one, so that what else the machine does hits all alike; medians and ratios are printed. `--pods` is how many pods are there when lists and
 * memory are measured, 0 to leave that out.
 */
import { loadavg } from 'node:os'
import { parseArgs } from 'node:util'
import { CriSubject, startBerth } from './cri-subject.ts'
import { memoryOf } from './memory.ts'

const IMAGE = 'docker.io/library/busybox:latest'
const ROUNDS = '10'
const PODS = '100'
const AT_ONCE = 10
const EXECS = 5
const LISTS = 5

type Network = 'host' | 'bridge'
/** Milliseconds by work and runtime. */
type Times = Map<string, Map<string, number[]>>

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      peer: { type: 'string', multiple: true, default: [] },
      rounds: { type: 'string', default: ROUNDS },
      pods: { type: 'string', default: PODS },
      image: { type: 'string', default: IMAGE },
    },
  })
  const { image } = values
  const berth = await startBerth(image)
  const subjects = [berth, ...values.peer.map((text) => parsePeer(text, image))]
  const loadBefore = loadavg()[0] ?? 0
  try {
    for (const subject of subjects) await subject.pull()
    for (const network of ['host', 'bridge'] as const) {
      const times: Times = new Map()
      // The first pod of a runtime finds nothing in its place yet: not measured.
      for (const subject of subjects) await oneByOne(subject, network, new Map())
      for (let round = 0; round < Number(values.rounds); round++) {
        for (const subject of turned(subjects, round)) await oneByOne(subject, network, times)
        for (const subject of turned(subjects, round)) await atOnce(subject, network, times)
      }
      print(times, subjects, 'ms', 1)
    }
    if (Number(values.pods) > 0) await loaded(subjects, Number(values.pods), Number(values.rounds))
    const loads = [loadBefore, loadavg()[0] ?? 0].map((load) => load.toFixed(1)).join(' and ')
    process.stdout.write(`\nload average before and after: ${loads}\n`)
  } finally {
    for (const subject of subjects) await subject.end()
  }
}

function parsePeer(text: string, image: string): CriSubject {
  const [, name, socket, handler = ''] = /^([^=]+)=([^,]+)(?:,(.*))?$/.exec(text) ?? []
  if (name === undefined || socket === undefined)
    throw new Error(`--peer ${text}: must be NAME=SOCKET or NAME=SOCKET,HANDLER`)
  return new CriSubject({ name, socket, handler, image })
}

/** One pod's life. */
async function oneByOne(subject: CriSubject, network: Network, times: Times): Promise<void> {
  const add = (work: string, ms: number) => note(times, work, subject, ms)
  let pod = { podId: '', containerId: '' }
  const startMs = await elapsed(async () => {
    pod = await subject.startPod(network)
  })
  add(`run, create, start; ${network} network`, startMs)
  if (network === 'host') {
    for (let i = 0; i < EXECS; i++)
      add('ExecSync of `true`', await elapsed(() => subject.exec(pod.containerId)))
  }
  add(`stop, remove; ${network} network`, await elapsed(() => subject.removePod(pod)))
}

/** For each pod: the time that all take, by their number. */
async function atOnce(subject: CriSubject, network: Network, times: Times): Promise<void> {
  const pods: Awaited<ReturnType<CriSubject['startPod']>>[] = []
  const all = await elapsed(async () => {
    const made = Array.from({ length: AT_ONCE }, () => subject.startPod(network))
    pods.push(...(await Promise.all(made)))
  })
  note(times, `${AT_ONCE} pods at once, each; ${network} network`, subject, all / AT_ONCE)
  await Promise.all(pods.map((pod) => subject.removePod(pod)))
}

/** Lists and memory with many pods, each with a container that sleeps. */
async function loaded(
  subjects: readonly CriSubject[],
  count: number,
  rounds: number,
): Promise<void> {
  const all = new Map(
    subjects.map((subject) => [subject, [] as { podId: string; containerId: string }[]]),
  )
  try {
    for (const [subject, pods] of all) {
      while (pods.length < count) {
        const some = Math.min(AT_ONCE, count - pods.length)
        const made = Array.from({ length: some }, () => subject.startPod('host'))
        pods.push(...(await Promise.all(made)))
      }
    }
    const times: Times = new Map()
    for (const subject of subjects) await subject.listStats()
    for (let round = 0; round < rounds * LISTS; round++) {
      for (const subject of turned(subjects, round)) {
        note(
          times,
          `ListContainers, ${count} running`,
          subject,
          await elapsed(() => subject.list()),
        )
        const ms = await elapsed(() => subject.listStats())
        note(times, `ListContainerStats, ${count} running`, subject, ms)
      }
    }
    print(times, subjects, 'ms', 2)
    const memory: Times = new Map()
    for (const [subject, pods] of all) {
      const { daemonBytes, podBytes } = memoryOf(subject.socket, pods)
      note(memory, 'memory of each idle pod (PSS)', subject, podBytes / 1024)
      note(memory, `the daemon at ${count} pods (PSS)`, subject, daemonBytes / 1024)
    }
    print(memory, subjects, 'KiB', 0)
  } finally {
    for (const [subject, pods] of all) {
      while (pods.length > 0)
        await Promise.all(pods.splice(0, AT_ONCE).map((pod) => subject.removePod(pod)))
    }
  }
}

async function elapsed(act: () => Promise<unknown>): Promise<number> {
  const begin = performance.now()
  await act()
  return performance.now() - begin
}

function note(times: Times, work: string, { name }: CriSubject, value: number): void {
  const of = times.get(work) ?? new Map<string, number[]>()
  times.set(work, of)
  of.set(name, [...(of.get(name) ?? []), value])
}

function turned<T>(all: readonly T[], by: number): T[] {
  const at = by % all.length
  return [...all.slice(at), ...all.slice(0, at)]
}

/** A line for each work: the medians with the middle half of all values, and what berth's is of the best other one. */
function print(times: Times, subjects: readonly CriSubject[], unit: string, digits: number): void {
  const [berth, ...peers] = subjects.map(({ name }) => name)
  process.stdout.write(`\n| ${unit} | ${[berth, ...peers].join(' | ')} | of the best other |\n`)
  process.stdout.write(`| --- |${' ---: |'.repeat(subjects.length + 1)}\n`)
  for (const [work, of] of times) {
    const values = subjects.map(({ name }) => (of.get(name) ?? []).sort((a, b) => a - b))
    const cells = values.map((sorted) => {
      const at = (part: number) => quantile(sorted, part).toFixed(digits)
      return sorted.length > 2 ? `${at(0.5)} (${at(0.25)} to ${at(0.75)})` : at(0.5)
    })
    const [own = Number.NaN, ...others] = values.map((sorted) => quantile(sorted, 0.5))
    const ratio = others.length === 0 ? '' : `${(own / Math.min(...others)).toFixed(2)}x`
    process.stdout.write(`| ${[work, ...cells, ratio].join(' | ')} |\n`)
  }
}

function quantile(sorted: readonly number[], part: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN
}

await main()
