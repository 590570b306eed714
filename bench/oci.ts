/**
 * OCI runtimes as an engine calls them: `run` of a program that ends at once, and create + start + delete; berth-oci with a daemon that does the command
 * lines and without, against runc and crun.
 *
 *   sudo node dist/bench/oci.js [--rounds N] [--json FILE]
 *
 * The state of each is on a tmpfs, as in /run, where engines have it. All take turns within each round, each time another one first, so that what else the machine does hits all alike.
 */
import type { ChildProcess } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { exampleSpec } from '../src/oci/spec.ts'
import { busyboxRoot } from '../test/lib/busybox.ts'
import { timeOf } from './commands.ts'
import { linkFront, startDaemon } from './daemon.ts'
import { ended, has, preload } from './engines.ts'
import { Measured, report } from './report.ts'
import { inWorld, TMPFS } from './world.ts'

const WARM_UP = 3

interface Subject {
  readonly name: string
  readonly program: string
  readonly env: Readonly<Record<string, string>>
}

function subjects(directory: string): Subject[] {
  const program = linkFront(directory, 'berth-oci')
  const peers = ['crun', 'runc'].filter((name) => {
    if (!has(name)) process.stdout.write(`${name}: left out: it is not installed\n`)
    return has(name)
  })
  return [
    ...peers.map((name) => ({ name, program: name, env: preload(directory, name) })),
    { name: 'berth-oci', program, env: { BERTH_STATE: join(directory, 'no-daemon') } },
    { name: 'berth-oci, daemon', program, env: { BERTH_STATE: join(directory, 'state') } },
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
    options: { rounds: { type: 'string', default: '20' }, json: { type: 'string' } },
  })
  const rounds = Number(values.rounds)
  const directory = mkdtempSync(join(tmpdir(), 'berth-bench-oci-'))
  let daemon: ChildProcess | undefined
  try {
    const bundle = makeBundle(directory)
    const all = subjects(directory)
    daemon = await startDaemon(directory)
    const works = {
      'run of a program that ends at once': [['run', '--bundle', bundle, 'bench']],
      'create, start, delete': [
        ['create', '--bundle', bundle, 'bench'],
        ['start', 'bench'],
        ['delete', '--force', 'bench'],
      ],
    }
    const measured = new Measured('oci')
    for (const [work, commands] of Object.entries(works)) {
      for (let round = 0; round < WARM_UP + rounds; round++) {
        for (const i of all.keys()) {
          const { name, program, env } = all[(i + round) % all.length] as Subject
          const state = join(TMPFS, `state of ${name}`)
          const lines = commands.map((words) => [program, '--root', state, ...words])
          const ms = timeOf(lines, env)
          if (round >= WARM_UP) measured.add(work, 'ms', name, ms)
        }
      }
    }
    report(measured.rows, values.json)
  } finally {
    if (daemon) await ended(daemon)
    rmSync(directory, { recursive: true, force: true, maxRetries: 3 })
  }
}

await inWorld(import.meta.url, main)
