/**
 * How long the calls of the kubelet take, over the socket: `berth serve` against containerd, both with roots of their own, or against other runtimes.
 *
 *   sudo node dist/bench/cri.js [--rounds N] [--seconds N] [--peer NAME=SOCKET[,HANDLER]]… [--image REF] [--json FILE]
 *
 * Without `--peer` all is in a network namespace of the bench, with a bridge there; with it, all use the networks of /etc/cni/net.d. The runtimes pull the
 * image by themselves. They take turns within each round, each round beginning with another one, so that what else the machine does hits all alike;
 * medians and ratios are printed. Of each network no round begins after so many seconds. Lists and memory with many pods: scale.ts.
 */
import { mkdtempSync } from 'node:fs'
import { loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { AT_ONCE, type CriSubject, type StartedPod } from './cri-subject.ts'
import { kernelFloor } from './floor.ts'
import { startPeers, withEach } from './peers.ts'
import { elapsed, FLOOR, Measured, report, rounds } from './report.ts'
import { inWorld } from './world.ts'

const ROUNDS = '10'
const EXECS = 5
/** The first pods of a runtime find nothing in its place yet: not measured. */
const WARM_UP = 3
const startOf = (network: Network): string => `run, create, start; ${network} network`

type Network = 'host' | 'bridge'

const { values } = parseArgs({
  options: {
    peer: { type: 'string', multiple: true, default: [] },
    rounds: { type: 'string', default: ROUNDS },
    seconds: { type: 'string', default: 'Infinity' },
    image: { type: 'string' },
    json: { type: 'string' },
  },
})

async function main(): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'cri-'))
  const loadBefore = loadavg()[0] ?? 0
  const measured = new Measured('cri')
  const { peer: given, image } = values
  const { subjects, end } = await startPeers({ directory, given, image, allRuntimes: true })
  try {
    const floor = kernelFloor(directory)
    const limits = { count: Number(values.rounds), seconds: Number(values.seconds) }
    for (const network of ['host', 'bridge'] as const) {
      const all = subjects.map((subject) => ({ subject }))
      for (const round of rounds(`cri: ${network} network`, { ...limits, warmUp: WARM_UP })) {
        const to = round < 0 ? new Measured('') : measured
        await withEach(all, ({ subject }) => oneByOne(subject, network, to), round)
        await withEach(all, ({ subject }) => atOnce(subject, network, to), round)
        if (floor && network === 'host') to.add(startOf(network), 'ms', FLOOR, floor.pod())
      }
    }
  } finally {
    report(measured.rows, values.json)
    await end()
  }
  const loads = [loadBefore, loadavg()[0] ?? 0].map((load) => load.toFixed(1)).join(' and ')
  process.stdout.write(`\nload average before and after: ${loads}\n`)
}

/** One pod's life. */
async function oneByOne(subject: CriSubject, network: Network, measured: Measured): Promise<void> {
  const add = (work: string, ms: number) => measured.add(work, 'ms', subject.name, ms)
  let pod: StartedPod = { podId: '', containerId: '' }
  subject.prepare()
  const startMs = await elapsed(async () => {
    pod = await subject.startPod(network)
  })
  add(startOf(network), startMs)
  if (network === 'host') {
    for (let i = 0; i < EXECS; i++)
      add('ExecSync of `true`', await elapsed(() => subject.exec(pod.containerId)))
  }
  add(`stop, remove; ${network} network`, await elapsed(() => subject.removePod(pod)))
}

/** For each pod: the time that all take, by their number. */
async function atOnce(subject: CriSubject, network: Network, measured: Measured): Promise<void> {
  let pods: StartedPod[] = []
  subject.prepare(AT_ONCE)
  const all = await elapsed(async () => {
    pods = await subject.startPods(AT_ONCE, network)
  })
  measured.add(
    `${AT_ONCE} pods at once, each; ${network} network`,
    'ms',
    subject.name,
    all / AT_ONCE,
  )
  await Promise.all(pods.map((pod) => subject.removePod(pod)))
}

await inWorld(import.meta.url, main, values.peer.length === 0)
