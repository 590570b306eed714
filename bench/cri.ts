/**
 * How long the calls of the kubelet take, over the socket: `berth serve` against containerd, both with roots of their own, or against other runtimes.
 *
 *   sudo node dist/bench/cri.js [--rounds N] [--pods N] [--peer NAME=SOCKET[,HANDLER]]… [--image REF] [--json FILE]
 *
 * Without `--peer` all is in a network namespace of the bench, with a bridge there; with it, all use the networks of /etc/cni/net.d. The runtimes pull the
 * image by themselves. They take turns within each round, each round beginning with another one, so that what else the machine does hits all alike;
 * medians and ratios are printed. `--pods` is how many pods are there when lists and memory are measured, 0 to leave that out.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { CriSubject, List, StartedPod } from './cri-subject.ts'
import { memoryOf } from './memory.ts'
import { startPeers } from './peers.ts'
import { elapsed, Measured, report } from './report.ts'
import { inWorld } from './world.ts'

const ROUNDS = '10'
const PODS = '100'
const AT_ONCE = 10
const EXECS = 5
const LISTS_A_ROUND = 5

type Network = 'host' | 'bridge'

const { values } = parseArgs({
  options: {
    peer: { type: 'string', multiple: true, default: [] },
    rounds: { type: 'string', default: ROUNDS },
    pods: { type: 'string', default: PODS },
    image: { type: 'string' },
    json: { type: 'string' },
  },
})

async function main(): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'berth-bench-'))
  const loadBefore = loadavg()[0] ?? 0
  const measured = new Measured('cri')
  try {
    const { subjects, end } = await startPeers(directory, values.peer, values.image)
    try {
      for (const network of ['host', 'bridge'] as const) {
        // The first pod of a runtime finds nothing in its place yet: not measured.
        for (const subject of subjects) await oneByOne(subject, network, new Measured(''))
        for (let round = 0; round < Number(values.rounds); round++) {
          for (const subject of turned(subjects, round)) await oneByOne(subject, network, measured)
          for (const subject of turned(subjects, round)) await atOnce(subject, network, measured)
        }
      }
      const pods = Number(values.pods)
      if (pods > 0) await loaded(subjects, pods, Number(values.rounds), measured)
    } finally {
      await end()
    }
    report(measured.rows, values.json)
    const loads = [loadBefore, loadavg()[0] ?? 0].map((load) => load.toFixed(1)).join(' and ')
    process.stdout.write(`\nload average before and after: ${loads}\n`)
  } finally {
    rmSync(directory, { recursive: true, force: true, maxRetries: 3 })
  }
}

/** One pod's life. */
async function oneByOne(subject: CriSubject, network: Network, measured: Measured): Promise<void> {
  const add = (work: string, ms: number) => measured.add(work, 'ms', subject.name, ms)
  let pod: StartedPod = { podId: '', containerId: '' }
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
async function atOnce(subject: CriSubject, network: Network, measured: Measured): Promise<void> {
  const pods: Awaited<ReturnType<CriSubject['startPod']>>[] = []
  const all = await elapsed(async () => {
    const made = Array.from({ length: AT_ONCE }, () => subject.startPod(network))
    pods.push(...(await Promise.all(made)))
  })
  measured.add(
    `${AT_ONCE} pods at once, each; ${network} network`,
    'ms',
    subject.name,
    all / AT_ONCE,
  )
  await Promise.all(pods.map((pod) => subject.removePod(pod)))
}

/** Lists and memory with many pods, each with a container that sleeps. */
async function loaded(
  subjects: readonly CriSubject[],
  count: number,
  rounds: number,
  measured: Measured,
): Promise<void> {
  const all = new Map(subjects.map((subject) => [subject, [] as StartedPod[]]))
  try {
    for (const [subject, pods] of all) {
      while (pods.length < count) {
        const some = Math.min(AT_ONCE, count - pods.length)
        const made = Array.from({ length: some }, () => subject.startPod('host'))
        pods.push(...(await Promise.all(made)))
      }
    }
    const lists = new Map<CriSubject, List[]>()
    for (const subject of subjects) lists.set(subject, await subject.lists(count))
    for (let round = 0; round < rounds * LISTS_A_ROUND; round++) {
      for (const subject of turned(subjects, round)) {
        for (const call of lists.get(subject) ?? [])
          measured.add(
            `${call}, ${count} running`,
            'ms',
            subject.name,
            await elapsed(() => subject.list(call)),
          )
      }
    }
    for (const [subject, pods] of all) {
      const { daemonBytes, podBytes } = memoryOf(subject.socket, pods)
      measured.add('memory of each idle pod (PSS)', 'KiB', subject.name, podBytes / 1024)
      const daemon = `the daemon at ${count} pods (PSS)`
      measured.add(daemon, 'MB', subject.name, daemonBytes / 1e6)
    }
  } finally {
    for (const [subject, pods] of all) {
      while (pods.length > 0)
        await Promise.all(pods.splice(0, AT_ONCE).map((pod) => subject.removePod(pod)))
    }
  }
}

function turned<T>(all: readonly T[], by: number): T[] {
  const at = by % all.length
  return [...all.slice(at), ...all.slice(0, at)]
}

await inWorld(import.meta.url, main, values.peer.length === 0)
