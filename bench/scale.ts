/**
 * What many pods cost: the next pod, the lists and statistics, memory, and the daemon's start, at growing numbers of them.
 *
 *   sudo node dist/bench/scale.js [--pods 1,10,50,100,200,300] [--rounds N] [--peer NAME=SOCKET[,HANDLER]]… [--image REF] [--json FILE]
 *
 * Each pod has one container that sleeps, on the host's network. `--rounds` are measurements at each number. Peers as in cri.ts; those
 * that run already are not started again.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { CriSubject, StartedPod } from './cri-subject.ts'
import { memoryOf } from './memory.ts'
import { startPeers, withEach } from './peers.ts'
import { elapsed, Measured, report } from './report.ts'
import { inWorld } from './world.ts'

const AT_ONCE = 10
const RESTARTS = 3
const LISTS_A_ROUND = 3

const { values } = parseArgs({
  options: {
    pods: { type: 'string', default: '1,10,50,100,200,300' },
    rounds: { type: 'string', default: '10' },
    peer: { type: 'string', multiple: true, default: [] },
    image: { type: 'string' },
    json: { type: 'string' },
  },
})

/** So many pods, then one more and less each round. */
async function atCount(
  subject: CriSubject,
  pods: StartedPod[],
  count: number,
  measured: Measured,
): Promise<void> {
  const add = (work: string, ms: number) =>
    measured.add(`${work} at ${count} pods`, 'ms', subject.name, ms)
  while (pods.length < count) {
    const some = Math.min(AT_ONCE, count - pods.length)
    pods.push(...(await Promise.all(Array.from({ length: some }, () => subject.startPod('host')))))
  }
  const lists = await subject.lists(count)
  for (let round = 0; round < Number(values.rounds); round++) {
    let pod: StartedPod | undefined
    const ms = await elapsed(async () => {
      pod = await subject.startPod('host')
    })
    add('one more pod', ms)
    if (pod) await subject.removePod(pod)
    for (const call of lists) {
      for (let i = 0; i < LISTS_A_ROUND; i++) add(call, await elapsed(() => subject.list(call)))
    }
  }
}

/** From the start of the program to its first answer, all pods still running. */
async function restart(subject: CriSubject, count: number, measured: Measured): Promise<void> {
  if (!subject.isOwn) return
  for (let i = 0; i < RESTARTS; i++) {
    await subject.stop()
    const ms = await elapsed(() => subject.start())
    measured.add(`start of the daemon with ${count} pods`, 'ms', subject.name, ms)
  }
}

async function main(): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'berth-bench-'))
  const counts = values.pods.split(',').map(Number)
  const most = Math.max(...counts)
  const measured = new Measured('scale')
  try {
    const { subjects, end } = await startPeers(directory, values.peer, values.image)
    try {
      const all = subjects.map((subject) => ({ subject, pods: [] as StartedPod[] }))
      await withEach(all, ({ subject }) => restart(subject, 0, measured))
      for (const count of counts)
        await withEach(all, ({ subject, pods }) => atCount(subject, pods, count, measured))
      await withEach(all, async ({ subject, pods }) => {
        const { daemonBytes, podBytes } = memoryOf(subject.socket, pods)
        measured.add(`each of ${most} idle pods (PSS)`, 'KiB', subject.name, podBytes / 1024)
        const daemon = `the daemon at ${most} pods (PSS)`
        measured.add(daemon, 'MB', subject.name, daemonBytes / 1e6)
        await restart(subject, most, measured)
      })
      await withEach(all, async ({ subject, pods }) => {
        while (pods.length > 0)
          await Promise.all(pods.splice(0, AT_ONCE).map((pod) => subject.removePod(pod)))
      })
    } finally {
      await end()
    }
    report(measured.rows, values.json)
  } finally {
    rmSync(directory, { recursive: true, force: true, maxRetries: 3 })
  }
}

await inWorld(import.meta.url, main, values.peer.length === 0)
