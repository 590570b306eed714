/**
 * What many pods cost: the next pod, the lists, statistics, memory, and the daemon's start, at growing numbers of them.
 *
 *   sudo node dist/bench/scale.js [--pods 1,50,100,200,300] [--rounds N] [--seconds N] [--suites scale,stats,memory,start-up]
 *        [--peer NAME=SOCKET[,HANDLER]]… [--image REF] [--json FILE]
 *
 * Each pod has one container that sleeps, on the host's network. One runtime after another goes through all numbers, with its own pods alone: those of others slow down
 * the kernel for all. `--rounds` are measurements at each number; none begins after so many seconds. Statistics are measured at 10, 100 and the most pods. Peers as in
 * cri.ts; those that run already are not started again.
 */
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import {
  AT_ONCE,
  type CriSubject,
  LISTS,
  type List,
  PROGRAM,
  type StartedPod,
} from './cri-subject.ts'
import { cpuMsOf, daemonBytes, memoryOf, ownerOf } from './memory.ts'
import { interruption, startPeers, withEach } from './peers.ts'
import { elapsed, Measured, progress, report, rounds } from './report.ts'
import { inWorld } from './world.ts'

const RESTARTS = 3
const CALLS_A_ROUND = 3
/**
 * Pods that come and go, and calls of each list, with every runtime before the first measurement: a program that compiles while it runs is slow with its first ones,
 * and would have a curve that falls. The client is such a program: with the first runtime alone it took half a millisecond more for a list than with the next.
 */
const WARM_UP = { pods: 30, calls: 300 }
const STATS_AT = [10, 100]
/** Beside the most. */
const MEMORY_AT = 100
const SUITES = ['scale', 'stats', 'memory', 'start-up'] as const
type Suite = (typeof SUITES)[number]

const { values } = parseArgs({
  options: {
    pods: { type: 'string', default: '1,50,100,200,300' },
    rounds: { type: 'string', default: '10' },
    seconds: { type: 'string', default: 'Infinity' },
    suites: { type: 'string', default: SUITES.join(',') },
    peer: { type: 'string', multiple: true, default: [] },
    image: { type: 'string' },
    json: { type: 'string' },
  },
})

interface Scaled {
  readonly subject: CriSubject
  readonly pods: StartedPod[]
}

const measured: Record<Suite, Measured> = {
  scale: new Measured('scale'),
  stats: new Measured('stats'),
  memory: new Measured('memory'),
  'start-up': new Measured('start-up'),
}

const isStats = (call: List): boolean => call.endsWith('Stats')

async function grow({ subject, pods }: Scaled, count: number): Promise<void> {
  progress(`scale: ${subject.name}: to ${count} pods`)
  while (pods.length < count) {
    interruption.throwIfAborted()
    pods.push(...(await subject.startPods(Math.min(AT_ONCE, count - pods.length), 'host')))
  }
}

async function shrink({ subject, pods }: Scaled): Promise<void> {
  while (pods.length > 0)
    await Promise.all(pods.splice(0, AT_ONCE).map((pod) => subject.removePod(pod)))
}

/** One more and less in each round; after them, so that nothing of a pod's end is in their time, the lists. */
async function atCount(one: Scaled, count: number, suites: ReadonlySet<Suite>): Promise<void> {
  const { subject } = one
  await grow(one, count)
  const limits = { count: Number(values.rounds), warmUp: 1, seconds: Number(values.seconds) }
  const at = (work: string): string => `${work} at ${count} pods`
  if (suites.has('scale')) {
    for (const round of rounds(`scale: ${subject.name}: ${count} pods`, limits)) {
      interruption.throwIfAborted()
      let pod: StartedPod | undefined
      subject.prepare()
      const ms = await elapsed(async () => {
        pod = await subject.startPod('host')
      })
      if (round >= 0) measured.scale.add(at('one more pod'), 'ms', subject.name, ms)
      if (pod) await subject.removePod(pod)
    }
  }
  const withStats = suites.has('stats') && (STATS_AT.includes(count) || count === most)
  const wanted = LISTS.filter((call) => (isStats(call) ? withStats : suites.has('scale')))
  const calls = await subject.lists(count, wanted)
  const daemon = ownerOf(subject.socket)
  for (const round of rounds(`lists: ${subject.name}: ${count} pods`, limits)) {
    interruption.throwIfAborted()
    for (const call of calls) {
      const add = (work: string, ms: number): void => {
        if (round < 0) return
        measured[isStats(call) ? 'stats' : 'scale'].add(at(work), 'ms', subject.name, ms)
      }
      const before = cpuMsOf(daemon)
      for (let i = 0; i < CALLS_A_ROUND; i++) add(call, await elapsed(() => subject.list(call)))
      const cpuMs = (cpuMsOf(daemon) - before) / CALLS_A_ROUND
      if (isStats(call)) add(`${call}: CPU of the daemon`, cpuMs)
    }
  }
}

/** From the start of the program to its first answer, all pods still running. */
async function restart({ subject, pods }: Scaled): Promise<void> {
  if (!subject.isOwn) return
  const count = pods.length
  const limits = { count: RESTARTS, warmUp: 0, seconds: Number.POSITIVE_INFINITY }
  for (const _round of rounds(`start-up: ${subject.name}: ${count} pods`, limits)) {
    await subject.stop()
    const ms = await elapsed(() => subject.start())
    const work = `start of the daemon with ${count} pods`
    measured['start-up'].add(work, 'ms', subject.name, ms)
  }
}

function memoryOfPods({ subject, pods }: Scaled): void {
  const { bytes, ownBytes } = memoryOf(subject.socket, pods, PROGRAM)
  const add = (work: string, value: number) =>
    measured.memory.add(work, 'KiB', subject.name, value / 1024)
  add(`each of ${most} idle pods (PSS)`, bytes)
  add(`each of ${most} idle pods, without its program (PSS)`, ownBytes)
}

function memoryOfDaemon({ subject, pods }: Scaled): void {
  const megabytes = daemonBytes(subject.socket) / 1e6
  measured.memory.add(`the daemon at ${pods.length} pods (PSS)`, 'MB', subject.name, megabytes)
}

async function warmUp(one: Scaled, suites: ReadonlySet<Suite>): Promise<void> {
  if (suites.has('start-up')) await restart(one)
  await grow(one, WARM_UP.pods)
  for (const call of await one.subject.lists(WARM_UP.pods, LISTS))
    for (let i = 0; i < WARM_UP.calls; i++) await one.subject.list(call)
  await shrink(one)
}

async function curve(
  one: Scaled,
  counts: readonly number[],
  suites: ReadonlySet<Suite>,
): Promise<void> {
  for (const count of counts) {
    await atCount(one, count, suites)
    if (suites.has('memory') && (count === MEMORY_AT || count === most)) memoryOfDaemon(one)
  }
  if (suites.has('memory')) memoryOfPods(one)
  if (suites.has('start-up')) await restart(one)
  await shrink(one)
}

const most = Math.max(...values.pods.split(',').map(Number))

async function main(): Promise<void> {
  const suites = new Set(values.suites.split(',') as Suite[])
  for (const name of suites)
    if (!SUITES.includes(name)) throw new Error(`--suites ${name}: must be of ${SUITES.join(', ')}`)
  const given = values.pods.split(',').map(Number)
  const withStats = suites.has('stats') ? STATS_AT.filter((count) => count <= most) : []
  const withMemory = suites.has('memory') && MEMORY_AT <= most ? [MEMORY_AT] : []
  const growing = suites.has('scale') ? given : [most]
  const counts = [...new Set([...growing, ...withStats, ...withMemory])].sort((a, b) => a - b)
  const directory = mkdtempSync(join(tmpdir(), 'scale-'))
  const { subjects, end } = await startPeers({ directory, given: values.peer, image: values.image })
  try {
    const all = subjects.map((subject): Scaled => ({ subject, pods: [] }))
    await withEach(all, (one) => warmUp(one, suites))
    await withEach(all, (one) => curve(one, counts, suites))
  } finally {
    report(
      SUITES.flatMap((name) => measured[name].rows),
      values.json,
    )
    await end()
  }
}

await inWorld(import.meta.url, main, values.peer.length === 0)
