/**
 * OCI runtimes as an engine calls them: `run` of a program that ends at once, and create + start + delete; berth-oci with a daemon that does the command
 * lines and without, against runc and crun.
 *
 *   sudo node dist/bench/oci.js [--rounds N] [--seconds N] [--json FILE]
 *
 * The state of each is on a tmpfs, as in /run, where engines have it. All take turns within each round, each time another one first. Of each work no round begins after so many seconds.
 */
import type { ChildProcess } from 'node:child_process'
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { exampleSpec } from '../src/oci/spec.ts'
import { busyboxRoot } from '../test/lib/busybox.ts'
import { timeOf } from './commands.ts'
import { linkFront, startDaemon } from './daemon.ts'
import { ended, has, preload } from './engines.ts'
import { isOurs, leftOut, Measured, report, rounds, turned } from './report.ts'
import { inWorld, TMPFS } from './world.ts'

/** A daemon that compiles while it runs is slow with its first ones. */
const WARM_UP = 10

/** Of the daemon. */
const STATE = join(TMPFS, 'berth')

interface Subject {
  readonly name: string
  readonly program: string
  readonly env: Readonly<Record<string, string>>
}

function subjects(directory: string): Subject[] {
  const program = linkFront(directory, 'berth-oci')
  const peers = ['crun', 'runc'].filter((name) => {
    if (!has(name)) leftOut(name, 'it is not installed')
    return has(name)
  })
  return [
    ...peers.map((name) => ({ name, program: name, env: preload(directory, name) })),
    { name: 'berth-oci', program, env: { BERTH_STATE: join(directory, 'no-daemon') } },
    { name: 'berth-oci, daemon', program, env: { BERTH_STATE: STATE } },
  ]
}

/** A bundle that all of them take. */
function makeBundle(directory: string): string {
  const bundle = join(directory, 'bundle')
  busyboxRoot(join(bundle, 'rootfs'))
  const spec = exampleSpec()
  if (!spec.process) throw new Error('the example has no process')
  spec.process.args = ['true']
  spec.process.env = ['PATH=/bin']
  spec.process.terminal = false
  // Raising a limit needs CAP_SYS_RESOURCE, which root of a guest may lack.
  delete spec.process.rlimits
  // crun of Debian 12 knows no later one.
  writeFileSync(
    join(bundle, 'config.json'),
    JSON.stringify({ ...spec, ociVersion: '1.0.2', hostname: 'bench' }),
  )
  return bundle
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      rounds: { type: 'string', default: '20' },
      seconds: { type: 'string', default: 'Infinity' },
      json: { type: 'string' },
    },
  })
  const limits = { count: Number(values.rounds), seconds: Number(values.seconds), warmUp: WARM_UP }
  const directory = mkdtempSync(join(tmpdir(), 'oci-'))
  const measured = new Measured('oci')
  let daemon: ChildProcess | undefined
  try {
    const bundle = makeBundle(directory)
    const all = subjects(directory)
    daemon = await startDaemon(directory, STATE)
    const works = {
      'run of a program that ends at once': [['run', '--bundle', bundle, 'bench']],
      'create, start, delete': [
        ['create', '--bundle', bundle, 'bench'],
        ['start', 'bench'],
        ['delete', '--force', 'bench'],
      ],
    }
    for (const [work, commands] of Object.entries(works)) {
      const left = [...all]
      for (const round of rounds(`oci: ${work}`, limits)) {
        for (const subject of turned(left, round)) {
          const { name, program, env } = subject
          const state = join(TMPFS, `state of ${name}`)
          try {
            const lines = commands.map((words) => [program, '--root', state, ...words])
            const ms = timeOf(lines, env)
            if (round >= 0) measured.add(work, 'ms', name, ms)
          } catch (error) {
            if (isOurs(name)) throw error
            leftOut(`${name}, ${work}`, error)
            measured.drop(work, name)
            left.splice(left.indexOf(subject), 1)
          }
        }
      }
    }
  } finally {
    report(measured.rows, values.json)
    if (daemon) await ended(daemon)
  }
}

await inWorld(import.meta.url, main)
