/**
 * The command line, from the call of the program to its end: berth against podman, docker, and the kernel's own floor.
 *
 *   sudo node dist/bench/run.js [--rounds N] [--lines MILLIONS] [--works run,stages,exec,logs,memory] [--json FILE]
 *
 * All take turns within each round, so that what else the machine does hits all alike; medians and ratios are printed. A peer that is not installed is
 * left out by name. For `logs` a container writes so many millions of lines of 100 bytes; `memory` is that of a container that sleeps, with all processes that
 * exist for it.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { busyboxImage, busyboxRoot } from '../test/lib/busybox.ts'
import { REPOSITORY, writeDockerArchive } from '../test/lib/images.ts'
import { timeOf } from './commands.ts'
import { type Engine, engines, has, quiet } from './engines.ts'
import { bytesOf } from './memory.ts'
import { FLOOR, Measured, type Row, report } from './report.ts'
import { inWorld } from './world.ts'

const IMAGE = 'localhost/bench:latest'
const LINE_BYTES = 100
/** Containers whose memory is measured. */
const IDLE = 5
/** Of the file in the image; the container writes it again and again. */
const LINES = 100_000

/** Commands, one after the other; those of `timed` together are one measurement. */
interface Work {
  readonly title: string
  readonly unit: Row['unit']
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

function works(times: number): Record<string, Work> {
  const megabytes = (times * LINES * LINE_BYTES) / 1e6
  const writer = `for i in $(seq ${times}); do cat /lines; done`
  return {
    run: {
      title: 'run --rm --net none of a program that ends at once',
      unit: 'ms',
      timed: (e) => [[...e.command, 'run', '--rm', ...e.options, e.image, 'true']],
      value: (ms) => ms,
    },
    stages: {
      title: 'create, start, rm --force, three commands',
      unit: 'ms',
      timed: (e) => [create(e, 'true'), start(e), remove(e)],
      value: (ms) => ms,
    },
    exec: {
      title: 'exec of `true` in a running container',
      unit: 'ms',
      before: (e) => [create(e, 'sleep', '1000'), start(e)],
      timed: (e) => [[...e.command, 'exec', 'bench', 'true']],
      // podman's rm waits ten seconds for a sleep that is PID 1 and knows no SIGTERM.
      after: (e) => [[...e.command, 'kill', 'bench'], remove(e)],
      value: (ms) => ms,
    },
    logs: {
      title: `log of ${(times * LINES) / 1e6} million lines of ${LINE_BYTES} bytes, from start to exit`,
      unit: 'MB/s',
      before: (e) => [create(e, 'sh', '-c', writer)],
      timed: (e) => [start(e), [...e.command, 'wait', 'bench']],
      after: (e) => [remove(e)],
      value: (ms) => megabytes / (ms / 1000),
    },
  }
}

function once(engine: Engine, work: Omit<Work, 'title' | 'unit'>): number {
  if (work.before) timeOf(work.before(engine))
  const value = work.value(timeOf(work.timed(engine)))
  if (work.after) timeOf(work.after(engine))
  return value
}

function compare(
  measured: Measured,
  { title, unit, ...work }: Work,
  all: Engine[],
  rounds: number,
  floor?: () => number,
): void {
  // The first of each finds nothing in its place yet: not measured.
  for (let round = -1; round < rounds; round++) {
    for (const engine of [...all]) {
      try {
        const value = once(engine, work)
        if (round >= 0) measured.add(title, unit, engine.name, value)
      } catch (error) {
        process.stdout.write(`${engine.name}: left out: ${String(error)}\n`)
        measured.drop(title, engine.name)
        all.splice(all.indexOf(engine), 1)
      }
    }
    const value = floor?.()
    if (value !== undefined && round >= 0) measured.add(title, unit, FLOOR, value)
  }
}

/** Of each of some idle containers. */
function measureMemory(measured: Measured, all: readonly Engine[]): void {
  const title = 'memory of an idle container, all its processes (PSS)'
  for (const engine of all) {
    try {
      const ids = Array.from({ length: IDLE }, () =>
        quiet(
          [...engine.command, 'run', '--detach'],
          ...engine.options,
          engine.image,
          'sleep',
          '1000',
        ).trim(),
      )
      measured.add(title, 'KiB', engine.name, bytesOf(ids, IDLE) / IDLE / 1024)
      timeOf([
        [...engine.command, 'kill', ...ids],
        [...engine.command, 'rm', '--force', ...ids],
      ])
    } catch (error) {
      process.stdout.write(`${engine.name}: memory: left out: ${String(error)}\n`)
    }
  }
}

/** clone, overlay, pivot_root, exec, wait and unmount, in a program of a page. */
function kernelFloor(directory: string): (() => number) | undefined {
  if (!has('g++')) {
    process.stdout.write(`${FLOOR}: left out: g++ is not installed\n`)
    return undefined
  }
  const at = (name: string) => join(directory, 'floor', name)
  for (const name of ['upper', 'work', 'target']) mkdirSync(at(name), { recursive: true })
  busyboxRoot(at('root'))
  for (const name of ['proc', 'sys', 'dev']) mkdirSync(join(at('root'), name))
  quiet(
    ['g++', '-O2', '-static', '-std=c++20'],
    join(REPOSITORY, 'bench/floor.cc'),
    '-o',
    at('floor'),
  )
  const command = [at('floor'), at('root'), at('upper'), at('work'), at('target'), '/bin/true']
  return () => timeOf([command])
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      rounds: { type: 'string', default: '20' },
      lines: { type: 'string', default: '2' },
      works: { type: 'string', default: 'run,stages,exec,logs,memory' },
      json: { type: 'string' },
    },
  })
  const directory = mkdtempSync(join(tmpdir(), 'berth-bench-'))
  const ready: Engine[] = []
  try {
    const archive = join(directory, 'image.tar')
    const lines = Buffer.alloc(LINES * LINE_BYTES, `${'x'.repeat(LINE_BYTES - 1)}\n`)
    writeDockerArchive(archive, [
      busyboxImage(IMAGE, undefined, [{ name: 'lines', content: lines }]),
    ])
    for (const engine of engines(directory, IMAGE)) {
      try {
        if (engine.missing !== undefined) throw new Error(engine.missing)
        ready.push(engine)
        await engine.start?.()
        quiet(engine.command, 'load', '--quiet', '--input', archive)
      } catch (error) {
        process.stdout.write(
          `${engine.name}: left out: ${error instanceof Error ? error.message.trim() : error}\n`,
        )
        if (engine.missing === undefined) await ready.pop()?.stop?.()
      }
    }
    const floor = kernelFloor(directory)
    const all = works(Math.max(1, Math.round((Number(values.lines) * 1e6) / LINES)))
    const measured = new Measured('run')
    for (const name of values.works.split(',')) {
      if (name === 'memory') {
        measureMemory(measured, ready)
        continue
      }
      const work = all[name]
      if (!work)
        throw new Error(`--works ${name}: must be of ${Object.keys(all).join(', ')}, memory`)
      const rounds = Number(values.rounds)
      compare(measured, work, [...ready], rounds, name === 'run' ? floor : undefined)
    }
    report(measured.rows, values.json)
  } finally {
    for (const engine of ready) await engine.stop?.()
    rmSync(directory, { recursive: true, force: true, maxRetries: 3 })
  }
}

await inWorld(import.meta.url, main)
