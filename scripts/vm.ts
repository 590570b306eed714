/**
 * A Linux machine with cgroup v2 and all its controllers, anywhere: User Mode Linux with the host's own file tree as its root.
 * It needs neither KVM nor root.
 *
 *   node dist/scripts/vm.js fetch           gets a newer kernel than the system's package has, for its user only
 *   node dist/scripts/vm.js COMMAND…        runs a command in it; its output and exit code are the command's
 *
 * BERTH_VM_KERNEL=package or =newer in the environment takes that kernel and no other; BERTH_VM_INIT=systemd has systemd as its PID 1.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { debs, multiarch, PrivateApt, patchelf, run } from './apt.ts'
import { REPOSITORY } from './files.ts'
import type { Ended } from './verdict.ts'

export interface Machine {
  /** The kernel: a program. */
  readonly linux: string
  readonly modules: string
  readonly version: string
}

/** With fewer, Node and a container hog of a test do not fit together. */
const MEMORY = '2048M'
const POLL_MS = 20
const BOOT_LIMIT_MS = 60_000
/** Of the variables of the caller, those that a test may look at. */
const ENVIRONMENT = /^(CI|PATH|HOME|LANG|NODE_OPTIONS|NO_COLOR|BERTH_(?!VM_).*)$/

/** What runs as PID 1 in the machine: nothing but what is needed, or the host's own systemd. */
export type Init = 'none' | 'systemd'

export const SYSTEMD = '/lib/systemd/systemd'

export type Kernel = 'package' | 'newer'

/** That kernel; without one named the fetched one, else that of Debian's package user-mode-linux. Undefined where it is missing. */
export function findMachine(kernel = namedKernel()): Machine | undefined {
  const fetched = cacheDirectory()
  const newer = () => machineOf(join(fetched, 'linux'), join(fetched, 'root/usr/lib/uml/modules'))
  const fromPackage = () => machineOf('/usr/bin/linux.uml', '/usr/lib/uml/modules')
  if (kernel === 'package') return fromPackage()
  return kernel === 'newer' ? newer() : (newer() ?? fromPackage())
}

function namedKernel(): Kernel | undefined {
  const name = process.env['BERTH_VM_KERNEL']
  if (!name) return undefined
  if (name === 'package' || name === 'newer') return name
  throw new Error(`BERTH_VM_KERNEL is ${name}: package or newer`)
}

function machineOf(linux: string, modules: string): Machine | undefined {
  if (!existsSync(linux) || !existsSync(modules)) return undefined
  const version = readdirSync(modules)[0]
  return version ? { linux, modules: join(modules, version), version } : undefined
}

/**
 * Why the machine cannot start on this processor. User Mode Linux saves the floating-point registers of its processes in a buffer of a fixed size, which in 6.1
 * has no room for the 8 KiB of AMX tiles: its first process then dies of SIGSEGV (seen with 6.1.176; 7.2 asks for the size).
 */
export function obstacleTo({ version }: Machine): string | undefined {
  if (!version.startsWith('6.1.') || !/\bamx_tile\b/.test(readFileSync('/proc/cpuinfo', 'utf8')))
    return undefined
  return `User Mode Linux ${version} does not start on a processor with AMX`
}

function cacheDirectory(): string {
  return join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'berth/uml')
}

/**
 * Boots the machine for one command in the repository. `show` passes its output on while it comes. `disk` is a file that is /dev/ubda there and outlives
 * the machine.
 */
export async function runInMachine(
  machine: Machine,
  command: readonly string[],
  options: { limitMs: number; show: boolean; disk?: string; init?: Init },
): Promise<Ended> {
  const exchange = realpathSync(mkdtempSync(join(tmpdir(), 'berth-vm-')))
  const environment = Object.entries(process.env)
    .filter(([name]) => ENVIRONMENT.test(name))
    .map(([name, value]) => `${name}=${value}`)
  writeFileSync(join(exchange, 'environment'), nulEnded(environment))
  writeFileSync(join(exchange, 'command'), nulEnded(command))
  for (const name of ['output', 'boot']) writeFileSync(join(exchange, name), '')

  const console = openSync(join(exchange, 'console'), 'w')
  const child = spawn(machine.linux, kernelArguments(machine, exchange, options), {
    stdio: ['ignore', console, console],
    env: { ...process.env, HOME: exchange, TMPDIR: memoryDirectory() },
    detached: true,
  })
  closeSync(console)
  try {
    return await follow(child, exchange, options)
  } finally {
    await end(child)
    rmSync(exchange, { recursive: true, force: true })
  }
}

function kernelArguments(
  machine: Machine,
  exchange: string,
  { disk, init = 'none' }: { disk?: string; init?: Init },
): string[] {
  return [
    ...['root=/dev/root', 'rootfstype=hostfs', 'rootflags=/', 'ro', `mem=${MEMORY}`],
    ...['con=null', 'con0=null,fd:1', 'con1=null', 'quiet', 'panic=-1', `uml_dir=${exchange}`],
    ...(disk === undefined ? [] : [`ubda=${disk}`]),
    // Faster than the other ways to run the guest's processes; kernels that do not know it ignore it.
    ...(Number(machine.version.split('.')[0]) >= 7 ? ['seccomp=on'] : []),
    `init=${join(REPOSITORY, 'scripts/vm-init.sh')}`,
    `BERTH_VM_EXCHANGE=${exchange}`,
    `BERTH_VM_REPOSITORY=${realpathSync(REPOSITORY)}`,
    `BERTH_VM_MODULES=${machine.modules}`,
    `BERTH_VM_INIT=${init}`,
  ]
}

/** The machine's memory is a file: on a disk it would be slow. */
function memoryDirectory(): string {
  return existsSync('/dev/shm') ? '/dev/shm' : tmpdir()
}

async function follow(
  child: ChildProcess,
  exchange: string,
  options: { limitMs: number; show: boolean },
): Promise<Ended> {
  const text = (name: string) => readFileSync(join(exchange, name), 'utf8')
  const begin = performance.now()
  const output = openSync(join(exchange, 'output'), 'r')
  const parts: Buffer[] = []
  const drain = () => {
    const part = Buffer.alloc(1 << 20)
    for (let count = readSync(output, part); count > 0; count = readSync(output, part)) {
      const bytes = Buffer.from(part.subarray(0, count))
      parts.push(bytes)
      if (options.show) process.stdout.write(bytes)
    }
    return Buffer.concat(parts).toString()
  }
  try {
    for (;;) {
      // Looked at in this order: what was written before the status or the end is then in the output.
      const status = existsSync(join(exchange, 'status')) ? text('status') : undefined
      const ended = child.exitCode !== null || child.signalCode !== null
      if (options.show || status !== undefined || ended) drain()
      if (status !== undefined) {
        return { output: drain(), code: Number(status), signal: null, timedOut: false }
      }
      const failed = () => `${drain()}\n${text('boot')}\n${text('console')}`
      if (ended)
        return { output: failed(), code: child.exitCode ?? 1, signal: null, timedOut: false }
      const ms = performance.now() - begin
      const isBooted = text('boot').includes('booted:')
      if (ms > options.limitMs || (!isBooted && ms > BOOT_LIMIT_MS)) {
        return { output: failed(), code: null, signal: null, timedOut: true }
      }
      await delay(POLL_MS)
    }
  } finally {
    closeSync(output)
  }
}

/** The kernel runs the guest's processes as its children: they go with their process group. */
async function end(child: ChildProcess): Promise<void> {
  if (child.pid === undefined) return
  const gone = new Promise((resolve) => child.once('exit', resolve))
  try {
    process.kill(-child.pid, 'SIGKILL')
  } catch {
    // It has powered off by itself.
  }
  if (child.exitCode === null && child.signalCode === null) await gone
}

function nulEnded(words: readonly string[]): string {
  return words.map((word) => `${word}\0`).join('')
}

/**
 * The newest kernel of Debian's archive, whatever release this machine runs, with the C library it was built for beside it. The archive is
 * the one that apt is configured with; nothing is installed.
 */
export function fetchMachine(release = 'forky'): void {
  const directory = cacheDirectory()
  const work = `${directory}.new`
  rmSync(work, { recursive: true, force: true })
  for (const name of ['root', 'old']) mkdirSync(join(work, name), { recursive: true })
  new PrivateApt(work, 'deb', release).get('download', 'user-mode-linux', 'libc6')
  for (const file of debs(work)) run(work, 'dpkg-deb', '-x', file, 'root')

  // By its own loader (`ld.so linux`) it would not find itself again when it re-executes.
  const libraries = join(directory, 'root/usr/lib', multiarch(join(work, 'root/usr/lib')))
  const loader = readdirSync(
    join(work, 'root/usr/lib', multiarch(join(work, 'root/usr/lib'))),
  ).find((n) => n.startsWith('ld-linux'))
  renameSync(join(work, 'root/usr/bin/linux.uml'), join(work, 'linux'))
  run(
    work,
    patchelf(work),
    '--set-interpreter',
    join(libraries, loader ?? ''),
    '--set-rpath',
    libraries,
    'linux',
  )
  for (const name of ['apt', 'old']) rmSync(join(work, name), { recursive: true })
  for (const file of debs(work)) rmSync(join(work, file))
  // Another checkout's machine may be starting: it finds the one or the other.
  const old = `${directory}.old`
  rmSync(old, { recursive: true, force: true })
  if (existsSync(directory)) renameSync(directory, old)
  renameSync(work, directory)
  rmSync(old, { recursive: true, force: true })
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const command = process.argv.slice(2)
  if (command[0] === 'fetch') {
    mkdirSync(dirname(cacheDirectory()), { recursive: true })
    fetchMachine()
    process.stdout.write(`${findMachine()?.version}\n`)
  } else {
    const machine = findMachine()
    if (!machine) throw new Error('no User Mode Linux: install the package user-mode-linux')
    const init = process.env['BERTH_VM_INIT'] === 'systemd' ? 'systemd' : 'none'
    const ended = await runInMachine(machine, command, { limitMs: 3_600_000, show: true, init })
    if (ended.timedOut || ended.signal) process.stderr.write(ended.output)
    process.exitCode = ended.code ?? 1
  }
}
