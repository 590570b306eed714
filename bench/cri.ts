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
import { startPeers, withEach } from './peers.ts'
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
      const all = subjects.map((subject) => ({ subject, pods: [] as StartedPod[] }))
      for (const network of ['host', 'bridge'] as const) {
        // The first pod of a runtime finds nothing in its place yet: not measured.
        await withEach(all, ({ subject }) => oneByOne(subject, network, new Measured('')))
        for (let round = 0; round < Number(values.rounds); round++) {
          await withEach(all, ({ subject }) => oneByOne(subject, network, measured), round)
          await withEach(all, ({ subject }) => atOnce(subject, network, measured), round)
        }
      }
      const pods = Number(values.pods)
      if (pods > 0) await loaded(all, pods, Number(values.rounds), measured)
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

interface Loaded {
  readonly subject: CriSubject
  readonly pods: StartedPod[]
  lists?: List[]
}

/** Lists and memory with many pods, each with a container that sleeps. */
async function loaded(
  all: Loaded[],
  count: number,
  rounds: number,
  measured: Measured,
): Promise<void> {
  try {
    await withEach(all, async (one) => {
      while (one.pods.length < count) {
        const some = Math.min(AT_ONCE, count - one.pods.length)
        const made = Array.from({ length: some }, () => one.subject.startPod('host'))
        one.pods.push(...(await Promise.all(made)))
      }
      one.lists = await one.subject.lists(count)
    })
    const measureLists = async ({ subject, lists = [] }: Loaded): Promise<void> => {
      for (const call of lists) {
        const ms = await elapsed(() => subject.list(call))
        measured.add(`${call}, ${count} running`, 'ms', subject.name, ms)
      }
    }
    for (let round = 0; round < rounds * LISTS_A_ROUND; round++)
      await withEach(all, measureLists, round)
    await withEach(all, async ({ subject, pods }) => {
      const { daemonBytes, podBytes } = memoryOf(subject.socket, pods)
      measured.add('memory of each idle pod (PSS)', 'KiB', subject.name, podBytes / 1024)
      const daemon = `the daemon at ${count} pods (PSS)`
      measured.add(daemon, 'MB', subject.name, daemonBytes / 1e6)
    })
  } finally {
    await withEach(all, async ({ subject, pods }) => {
      while (pods.length > 0)
        await Promise.all(pods.splice(0, AT_ONCE).map((pod) => subject.removePod(pod)))
    })
  }
}

await inWorld(import.meta.url, main, values.peer.length === 0)
