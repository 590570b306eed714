/**
 * The command line, from the call of the program to its end: berth against podman, docker, and the kernel's own floor.
 *
 *   sudo node dist/bench/run.js [--rounds N] [--seconds N] [--lines MILLIONS] [--suites run,exec,logs,memory] [--json FILE]
 *
 * All take turns within each round, so that what else the machine does hits all alike; medians and ratios are printed. Of each work no round begins after so
 * many seconds. A peer that is not installed or fails is left out by name. For `logs` a container writes so many millions of lines of 100 bytes; `memory` is
 * that of a container that sleeps, with all processes that exist for it.
 */
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { busyboxImage } from '../test/lib/busybox.ts'
import { writeDockerArchive } from '../test/lib/images.ts'
import { timeOf } from './commands.ts'
import { type Engine, engines, quiet } from './engines.ts'
import { kernelFloor } from './floor.ts'
import { memoryOfAll } from './memory.ts'
import {
  FLOOR,
  isOurs,
  leftOut,
  Measured,
  progress,
  type Row,
  report,
  rounds,
  turned,
} from './report.ts'
import { inWorld } from './world.ts'

const IMAGE = 'localhost/bench:latest'
const LINE_BYTES = 100
/** Containers whose memory is measured. */
const IDLE = 5
/** Of the file in the image; the container writes it again and again. */
const LINES = 100_000
const SLEEP = ['sleep', '1000']

/** Commands, one after the other; those of `timed` together are one measurement. */
interface Work {
  readonly title: string
  readonly unit: Row['unit']
  /** The first of each finds nothing in its place yet, and daemons that compile while they run are slow with it: not measured. */
  readonly warmUp: number
  readonly before?: (engine: Engine) => string[][]
  readonly timed: (engine: Engine) => string[][]
  readonly after?: (engine: Engine) => string[][]
  /** Of the time a measurement took. */
  readonly value: (ms: number) => number
}

const create = (e: Engine, ...program: string[]) => [
  ...[...e.command, 'create', '--name', 'bench', ...e.options],
  ...[e.image, ...program],
]
const remove = (e: Engine) => [...e.command, 'rm', '--force', 'bench']
const start = (e: Engine) => [...e.command, 'start', 'bench']

function works(times: number): Record<'run' | 'stages' | 'exec' | 'logs', Work> {
  const megabytes = (times * LINES * LINE_BYTES) / 1e6
  const writer = `for i in $(seq ${times}); do cat /lines; done`
  return {
    run: {
      title: 'run --rm --net none of a program that ends at once',
      unit: 'ms',
      warmUp: 5,
      timed: (e) => [[...e.command, 'run', '--rm', ...e.options, e.image, 'true']],
      value: (ms) => ms,
    },
    stages: {
      title: 'create, start, rm --force, three commands',
      unit: 'ms',
      warmUp: 2,
      timed: (e) => [create(e, 'true'), start(e), remove(e)],
      value: (ms) => ms,
    },
    exec: {
      title: 'exec of `true` in a running container',
      unit: 'ms',
      warmUp: 2,
      before: (e) => [create(e, ...SLEEP), start(e)],
      timed: (e) => [[...e.command, 'exec', 'bench', 'true']],
      // podman's rm waits ten seconds for a sleep that is PID 1 and knows no SIGTERM.
      after: (e) => [[...e.command, 'kill', 'bench'], remove(e)],
      value: (ms) => ms,
    },
    logs: {
      title: `log of ${(times * LINES) / 1e6} million lines of ${LINE_BYTES} bytes, from start to exit`,
      unit: 'MB/s',
      warmUp: 1,
      before: (e) => [create(e, 'sh', '-c', writer)],
      timed: (e) => [start(e), [...e.command, 'wait', 'bench']],
      after: (e) => [remove(e)],
      value: (ms) => megabytes / (ms / 1000),
    },
  }
}

function once(engine: Engine, work: Omit<Work, 'title' | 'unit' | 'warmUp'>): number {
  if (work.before) timeOf(work.before(engine))
  const value = work.value(timeOf(work.timed(engine)))
  if (work.after) timeOf(work.after(engine))
  return value
}

interface Limits {
  readonly count: number
  readonly seconds: number
}

function compare(
  measured: Measured,
  { title, unit, warmUp, ...work }: Work,
  engines: readonly Engine[],
  limits: Limits,
  floor?: () => number,
): void {
  const left = [...engines]
  for (const round of rounds(title, { ...limits, warmUp })) {
    for (const engine of turned(left, round)) {
      try {
        const value = once(engine, work)
        if (round >= 0) measured.add(title, unit, engine.name, value)
      } catch (error) {
        if (isOurs(engine.name)) throw error
        leftOut(`${engine.name}, ${title}`, error)
        measured.drop(title, engine.name)
        left.splice(left.indexOf(engine), 1)
      }
    }
    const value = floor?.()
    if (value !== undefined && round >= 0) measured.add(title, unit, FLOOR, value)
  }
}

/** Of each of some idle containers. */
function measureMemory(measured: Measured, all: readonly Engine[]): void {
  progress('memory of idle containers')
  for (const engine of all) {
    const run = [...engine.command, 'run', '--detach', ...engine.options, engine.image, ...SLEEP]
    try {
      const ids = Array.from({ length: IDLE }, () => quiet(run).trim())
      // On a busy machine a command may end before the program has its name.
      quiet(['sleep', '1'])
      const { bytes, ownBytes } = memoryOfAll(ids, IDLE, SLEEP)
      const add = (title: string, sum: number) =>
        measured.add(title, 'KiB', engine.name, sum / IDLE / 1024)
      add('an idle container, all its processes (PSS)', bytes)
      add('an idle container, without its program (PSS)', ownBytes)
      timeOf([
        [...engine.command, 'kill', ...ids],
        [...engine.command, 'rm', '--force', ...ids],
      ])
    } catch (error) {
      if (isOurs(engine.name)) throw error
      leftOut(`${engine.name}, memory`, error)
    }
  }
}

/** Those that are there and start. */
async function started(directory: string, archive: string): Promise<Engine[]> {
  const ready: Engine[] = []
  for (const engine of engines(directory, IMAGE)) {
    progress(`${engine.name} is started`)
    try {
      if (engine.missing !== undefined) throw new Error(engine.missing)
      await engine.start?.()
      quiet(engine.command, 'load', '--quiet', '--input', archive)
      ready.push(engine)
    } catch (error) {
      if (engine.missing === undefined) await engine.stop?.()
      if (isOurs(engine.name)) throw error
      leftOut(engine.name, error)
    }
  }
  return ready
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      rounds: { type: 'string', default: '20' },
      seconds: { type: 'string', default: 'Infinity' },
      lines: { type: 'string', default: '2' },
      suites: { type: 'string', default: 'run,exec,logs,memory' },
      json: { type: 'string' },
    },
  })
  const directory = mkdtempSync(join(tmpdir(), 'run-'))
  const archive = join(directory, 'image.tar')
  const lines = Buffer.alloc(LINES * LINE_BYTES, `${'x'.repeat(LINE_BYTES - 1)}\n`)
  writeDockerArchive(archive, [busyboxImage(IMAGE, undefined, [{ name: 'lines', content: lines }])])
  const all = await started(directory, archive)
  const measured: Measured[] = []
  try {
    const limits = { count: Number(values.rounds), seconds: Number(values.seconds) }
    const known = works(Math.max(1, Math.round((Number(values.lines) * 1e6) / LINES)))
    const floor = kernelFloor(directory)
    const suites: Record<string, (measured: Measured) => void> = {
      run: (measured) => {
        compare(measured, known.run, all, limits, floor?.run)
        compare(measured, known.stages, all, limits)
      },
      exec: (measured) => compare(measured, known.exec, all, limits),
      logs: (measured) => compare(measured, known.logs, all, limits),
      memory: (measured) => measureMemory(measured, all),
    }
    for (const name of values.suites.split(',')) {
      const suite = suites[name]
      if (!suite) throw new Error(`--suites ${name}: must be of ${Object.keys(suites).join(', ')}`)
      const own = new Measured(name)
      measured.push(own)
      suite(own)
    }
  } finally {
    report(
      measured.flatMap(({ rows }) => rows),
      values.json,
    )
    for (const engine of all) await engine.stop?.()
  }
}

await inWorld(import.meta.url, main)
