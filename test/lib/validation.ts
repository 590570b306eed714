/**
 * Runs the validation suite of the runtime-spec, built by scripts/validation.ts, against a runtime.
 *
 *   node dist/test/lib/validation.js RUNTIME…     inside the machine of scripts/vm.ts: berth-oci, crun, runc; a report for `tableOf` on stdout
 */
import { execFileSync, spawn } from 'node:child_process'
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { REPOSITORY } from './images.ts'
import { ociProgram } from './oci.ts'

export const SUITE = join(REPOSITORY, 'build/validation')

export const RUNTIMES = ['berth-oci', 'crun', 'runc'] as const
export type Runtime = (typeof RUNTIMES)[number]

/** Of one test program. */
const LIMIT_MS = 120_000
/** Most of the time tests wait for what should happen meanwhile. */
const PARALLEL = 4
/** What passes with no runtime (docs/conformance.md): tried once. */
const STALE = /^(linux_cgroups_|delete|misc_props|pidfile|process_rlimits|start)/
/** These share one cgroup by its name. */
const ALONE = /^(linux_cgroups_|delete_.*resources)/

/** Of one test program: the numbers of its claims. */
export interface Verdict {
  readonly ok: number
  readonly failed: number
  readonly code: number | null
  /** What it said where it has failed. */
  readonly output: string
}

/** As the suite's own runner has it: it ends well, and nothing in its output is `not ok`. */
export function hasPassed({ failed, code }: Verdict): boolean {
  return failed === 0 && code === 0
}

export function testsOfSuite(): string[] {
  return readdirSync(join(SUITE, 'tests')).sort()
}

/** Runs some tests against a runtime whose state is in a directory of its own; nothing of it is left. */
export async function validate(
  runtime: Runtime,
  tests: readonly string[],
): Promise<Map<string, Verdict>> {
  const work = mkdtempSync(join(tmpdir(), `berth-validation-${runtime}-`))
  try {
    const program = join(work, runtime)
    const command = runtime === 'berth-oci' ? ociProgram() : runtime
    writeFileSync(program, `#!/bin/sh\nexec ${command} --root ${work}/state "$@"\n`)
    chmodSync(program, 0o755)
    mkdirSync(join(work, 'state'))
    const verdicts = new Map<string, Verdict>()
    const runQueue = async (queue: string[]): Promise<void> => {
      for (let test = queue.shift(); test !== undefined; test = queue.shift()) {
        verdicts.set(test, await runTest(test, program, work))
      }
    }
    const together = tests.filter((test) => !ALONE.test(test))
    await Promise.all([
      runQueue(tests.filter((test) => ALONE.test(test))),
      ...Array.from({ length: PARALLEL - 1 }, () => runQueue(together)),
    ])
    // Most of them have times of their own, which a busy machine does not keep.
    const failed = [...verdicts].filter(([, verdict]) => !hasPassed(verdict)).map(([test]) => test)
    await runQueue(failed.filter((test) => !STALE.test(test)))
    return verdicts
  } finally {
    // Some tests leave their container.
    for (const id of readdirSync(join(work, 'state')).filter((name) => !name.startsWith('.'))) {
      execFileSync(join(work, runtime), ['delete', '--force', id])
    }
    unmountBelow(work)
    rmSync(work, { recursive: true, force: true })
  }
}

/** A container without a mount namespace leaves crun's and runc's mounts on the host. */
function unmountBelow(directory: string): void {
  const below = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
    .filter((path) => path.startsWith(`${directory}/`))
  for (const path of below.reverse()) execFileSync('umount', ['--lazy', path])
}

function runTest(test: string, program: string, work: string): Promise<Verdict> {
  return new Promise((resolve, reject) => {
    const child = spawn(join(SUITE, 'tests', test), {
      // The suite looks for its root file system and its program inside there.
      cwd: SUITE,
      env: { PATH: process.env['PATH'], TMPDIR: work, RUNTIME: program },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    })
    let output = ''
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (bytes: Buffer) => {
        output += bytes.toString()
      })
    }
    const timer = setTimeout(() => {
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL')
    }, LIMIT_MS)
    child.once('error', reject)
    child.once('exit', (code) => {
      clearTimeout(timer)
      // What it has started may hold its output.
      setImmediate(() => {
        child.stdout.destroy()
        child.stderr.destroy()
        const count = (pattern: RegExp): number => output.match(pattern)?.length ?? 0
        const failed = count(/^\s*not ok\b/gm)
        resolve({ ok: count(/^\s*ok\b/gm), failed, code, output })
      })
    })
  })
}

// -- the table of all runtimes -----------------------------------------------------------------------------------------

type Report = Record<string, Partial<Record<Runtime, Verdict>>>

const MARK = 'validation report: '

export function parseReport(output: string): Report {
  const line = output.split('\n').find((text) => text.startsWith(MARK))
  if (line === undefined) throw new Error(`no report: ${output.slice(-2000)}`)
  return JSON.parse(line.slice(MARK.length)) as Report
}

export function tableOf(report: Report): string {
  const say = (verdict: Verdict | undefined): string => {
    if (verdict === undefined) return '–'
    if (hasPassed(verdict)) return 'passes'
    return verdict.failed > 0 ? `${verdict.failed} of ${verdict.ok + verdict.failed} fail` : 'fails'
  }
  const rows = Object.entries(report)
    .sort()
    .map(([test, by]) => `| ${test} | ${RUNTIMES.map((name) => say(by[name])).join(' | ')} |`)
  const sums = RUNTIMES.map((name) => {
    const passed = Object.values(report).filter((by) => by[name] && hasPassed(by[name]))
    return `**${passed.length}**`
  })
  return [
    '# Conformance',
    '',
    'The validation suite of the [runtime-spec](https://github.com/opencontainers/runtime-tools), release 0.9.0.109 as Debian has it, against berth-oci and the crun',
    'and runc of Debian 12, each in a machine with cgroup v2 and all its controllers (User Mode Linux); `node dist/scripts/validation.js table` makes this table, and',
    '[validation](../test/vm/validation.test.ts) fails where crun or runc pass what berth-oci does not.',
    '',
    'The suite is from 2023. What nobody passes is stale: `linux_cgroups_*` and `delete_*resources` look for cgroup v1, `delete` wants a created container kept that every engine',
    'wants deleted, `pidfile` and `start` wait for what has happened, and `process_rlimits` and `misc_props` ask for what their own root file system has not.',
    '',
    `| test | ${RUNTIMES.join(' | ')} |`,
    '| --- | --- | --- | --- |',
    ...rows,
    `| **of ${rows.length}** | ${sums.join(' | ')} |`,
    '',
  ].join('\n')
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const report: Report = {}
  for (const name of process.argv.slice(2)) {
    const runtime = RUNTIMES.find((known) => known === name)
    if (runtime === undefined) throw new Error(`no runtime ${name}: ${RUNTIMES.join(', ')}`)
    for (const [test, verdict] of await validate(runtime, testsOfSuite())) {
      const output = verdict.output.slice(0, 4000)
      report[test] = { ...report[test], [runtime]: { ...verdict, output } }
    }
  }
  process.stdout.write(`${MARK}${JSON.stringify(report)}\n`)
}
