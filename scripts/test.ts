/**
 * Runs test files, each in its own process with a time limit, and ends with the line `N passed, N failed, N skipped`.
 *
 *   node dist/scripts/test.js [KIND | FILE]…      kinds: tidy, unit, oci, kernel, hostile, cli, cri, vm; all without any
 *
 * Files of kind vm need cgroup v2 with all controllers and root: where this machine has no such thing they run inside
 * User Mode Linux (scripts/vm.ts).
 */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { lacks, type Need } from '../test/lib/needs.ts'
import { isSharedParentLeft } from '../test/lib/traces.ts'
import { REPOSITORY, selectFiles, type TestFile } from './files.ts'
import { type Ended, judge, type Verdict } from './verdict.ts'
import { findMachine, type Init, obstacleTo, runInMachine, SYSTEMD } from './vm.ts'

const OUTPUT_CHARACTERS_MAX = 16 * 1024 * 1024
const VM_NEEDS: readonly Need[] = [
  'root',
  'cgroup:cpu',
  'cgroup:io',
  'cgroup:memory',
  'cgroup:pids',
]
/**
 * What shows that berth works on the oldest kernel at hand, that of the package: taken there beside where they run anyway, whenever the
 * first of them is asked for.
 */
const OLDEST_KERNEL = [
  'test/vm/oldest-kernel.test.ts',
  'test/kernel/init-layers.test.ts',
  'test/kernel/init-mounts.test.ts',
  'test/kernel/layer-chain.test.ts',
  'test/kernel/monitor-restart.test.ts',
  'test/kernel/cgroup-devices.test.ts',
]
/** What needs systemd as PID 1, and root on cgroup v2: on a machine that has it not, in one that has. */
const SYSTEMD_FILES = /^test\/vm\/systemd[^/]*$/
/** Boots machines of its own, which see nothing of what runs beside them. */
const HAS_MACHINES = 'test/kernel/power-cut.test.ts'
/** For all files in the machine together: it is booted once. */
const VM_LIMIT_MS = 20 * 60_000

const inCi = process.env['CI'] === 'true' || process.env['CI'] === '1'
const totals = { passed: 0, failed: 0, skipped: 0 }

function report(name: string, verdict: Verdict, output: string, ms: number): void {
  totals.passed += verdict.passed
  totals.failed += verdict.failed
  totals.skipped += verdict.skipped
  const counts = [
    `${verdict.passed} passed`,
    ...(verdict.failed > 0 ? [`${verdict.failed} failed`] : []),
    ...(verdict.skipped > 0 ? [`${verdict.skipped} skipped`] : []),
  ].join(', ')
  const word = verdict.problems.length > 0 ? 'FAIL' : verdict.passed > 0 ? 'ok  ' : 'skip'
  process.stdout.write(`${word} ${name}: ${counts} (${(ms / 1000).toFixed(1)} s)\n`)
  if (verdict.problems.length > 0) process.stdout.write(`${output.trimEnd()}\n`)
  for (const problem of verdict.problems) process.stdout.write(`     failed: ${problem}\n`)
  for (const reason of verdict.reasons) process.stdout.write(`     skipped: ${reason}\n`)
}

async function runFile(file: TestFile): Promise<void> {
  const begin = performance.now()
  const ended = existsSync(file.built)
    ? await run(file.built, file.kind.limitMs)
    : { output: 'not built: npm run build:js', code: 1, signal: null, timedOut: false }
  const verdict = judge(ended, { inCi, limitMs: file.kind.limitMs })
  report(file.source, verdict, ended.output, performance.now() - begin)
}

function run(built: string, limitMs: number): Promise<Ended> {
  return new Promise((resolve) => {
    // Its own process group, so that a file that hangs is ended with the programs it started.
    const child = spawn(process.execPath, ['--enable-source-maps', built], {
      cwd: REPOSITORY,
      env: { ...process.env, NO_COLOR: '1', FORCE_COLOR: '0' },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    })
    let output = ''
    let timedOut = false
    const add = (part: Buffer) => {
      if (output.length < OUTPUT_CHARACTERS_MAX) output += part.toString()
    }
    child.stdout.on('data', add)
    child.stderr.on('data', add)
    const timer = setTimeout(() => {
      timedOut = true
      killGroup(child.pid)
    }, limitMs)
    // A program that outlives the test and holds its stdout would keep 'close' from coming.
    child.on('exit', () => setTimeout(() => child.stdout.destroy(), 2000).unref())
    child.on('error', (error) => {
      output += String(error)
    })
    child.on('close', (code, signal) => {
      clearTimeout(timer)
      resolve({ output, code, signal, timedOut })
    })
  })
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // The group has ended by itself.
  }
}

/** At most `parallel` of the kind at once, kinds one after the other. */
async function runKinds(files: readonly TestFile[]): Promise<void> {
  for (const kind of new Set(files.map((file) => file.kind))) {
    const queue = files.filter((file) => file.kind === kind)
    const worker = async () => {
      for (let file = queue.shift(); file; file = queue.shift()) await runFile(file)
    }
    await Promise.all(Array.from({ length: kind.parallel }, worker))
  }
}

async function runInMachines(files: readonly TestFile[], inVm: readonly TestFile[]): Promise<void> {
  const sourcesOf = (needSystemd: boolean): string[] =>
    inVm.map(({ source }) => source).filter((path) => SYSTEMD_FILES.test(path) === needSystemd)
  if (sourcesOf(false).length > 0) await runInVm(sourcesOf(false))
  if (sourcesOf(true).length > 0) await runInVm(sourcesOf(true), findMachine(), 'systemd')
  const isGuest = existsSync('/run/exchange/command')
  if (!isGuest && files.some((file) => file.source === OLDEST_KERNEL[0])) {
    await runInVm(OLDEST_KERNEL, findMachine('package'))
  }
}

/** The same files in a machine that has what they need; its last line is added to ours. */
async function runInVm(
  sources: readonly string[],
  machine = findMachine(),
  init: Init = 'none',
): Promise<void> {
  const begin = performance.now()
  const skip = (reason: string): void => {
    const output = `# skipped ${reason}\n`
    const ended = { output, code: 0, signal: null, timedOut: false }
    report('test/vm', judge(ended, { inCi, limitMs: VM_LIMIT_MS }), output, 0)
  }
  const lacking = init === 'systemd' && !existsSync(SYSTEMD) ? `systemd (${SYSTEMD}), and ` : ''
  if (!machine || lacking !== '') {
    return skip(
      `(setup): needs ${lacking}User Mode Linux (Debian package user-mode-linux), or root and cgroup v2`,
    )
  }
  const obstacle = obstacleTo(machine)
  if (obstacle !== undefined) return skip(`(kernel): ${obstacle}`)
  const command = [process.execPath, 'dist/scripts/test.js', ...sources]
  const ended = await runInMachine(machine, command, {
    limitMs: VM_LIMIT_MS,
    show: false,
    init,
  })
  const last = /^(\d+) passed, (\d+) failed, (\d+) skipped$/m.exec(ended.output)
  const [passed, failed, skipped] = last ? last.slice(1).map(Number) : [0, 1, 0]
  totals.passed += passed ?? 0
  totals.failed += (failed ?? 0) || (ended.code === 0 && last ? 0 : 1)
  totals.skipped += skipped ?? 0
  const shown = ended.output.replace(last?.[0] ?? '', '').trimEnd()
  process.stdout.write(`${shown.replace(/^/gm, 'vm | ')}\n`)
  const seconds = ((performance.now() - begin) / 1000).toFixed(1)
  process.stdout.write(
    `     in User Mode Linux ${machine.version}: ${seconds} s, booting included\n`,
  )
  if (ended.timedOut) process.stdout.write(`     failed: no end within ${VM_LIMIT_MS / 1000} s\n`)
  else if (!last) process.stdout.write(`     failed: the machine gave no result (${ended.code})\n`)
}

try {
  const wasLeft = isSharedParentLeft()
  const files = selectFiles(process.argv.slice(2))
  const isNative = VM_NEEDS.every((need) => !lacks(need))
  const withSystemd = isNative && existsSync('/run/systemd/system')
  const inVm = files.filter(
    ({ kind, source }) =>
      kind.name === 'vm' && !(SYSTEMD_FILES.test(source) ? withSystemd : isNative),
  )
  const here = files.filter((file) => !inVm.includes(file))
  const only = (wanted: (file: TestFile) => boolean) => runKinds(here.filter(wanted))
  const hasMachines = ({ source }: TestFile) => source === HAS_MACHINES
  const isAlone = ({ kind }: TestFile) => kind.name === 'vm'
  // Most tests wait most of the time: one after the other they would leave half of the machine idle.
  const first = only((file) => file.kind.first === true)
  const lanes = await Promise.allSettled([
    first.then(() =>
      only((file) => !file.kind.first && !file.kind.beside && !hasMachines(file) && !isAlone(file)),
    ),
    runInMachines(files, inVm)
      .then(() => only(hasMachines))
      .then(() => first)
      .then(() => only(({ kind }) => kind.beside === true)),
  ])
  await only(isAlone)
  for (const lane of lanes) if (lane.status === 'rejected') throw lane.reason
  if (!wasLeft && isSharedParentLeft()) {
    throw new Error("berth's parent group is left behind, empty, by one of the tests")
  }
} catch (error) {
  process.stdout.write(`${error instanceof Error ? error.message : String(error)}\n`)
  totals.failed += 1
}
process.stdout.write(
  `${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped\n`,
)
process.exitCode = totals.failed > 0 || totals.passed + totals.skipped === 0 ? 1 : 0
