/**
 * The bench's own part of the machine, whose end takes all with it that a suite and its peers have started: namespaces of processes (the last one's end
 * is that of all), of mounts (the places that daemons know by name are empty there), a network with nothing but loopback, a cgroup that its processes
 * take for the root of cgroup v2 (a hybrid host has it further down, where peers do not look), and a directory for files.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { constants, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { cgroupRoot } from '../test/lib/needs.ts'
import { progress } from './report.ts'

const HERE = 'BERTH_BENCH_WORLD'
/** Where the bench's own state is. */
export const TMPFS = '/run/berth-bench'
const OF_DAEMONS = ['/run/containerd', '/run/docker', '/run/netns', '/var/lib/cni']
/** Of a cgroup whose processes were killed. */
const GROUP_MS = 10_000

/** What sudo leaves, as for a person's own call. With NODE_EXTRA_CA_CERTS, for one, Node reads a hundred certificates before it runs anything. */
export const ENVIRONMENT = Object.fromEntries(
  ['PATH', 'HOME', 'LANG', 'TERM', 'TMPDIR'].flatMap((name) => {
    const value = process.env[name]
    return value === undefined ? [] : [[name, value]]
  }),
)

/**
 * Runs `main` in such a world, by starting this very program again there: the exit status is that program's. Not `alone`, the host's network, processes and
 * daemons stay in sight.
 */
export async function inWorld(
  moduleUrl: string,
  main: () => Promise<void>,
  alone = true,
): Promise<void> {
  if (process.env[HERE] !== undefined) return main()
  const directory = mkdtempSync(join(tmpdir(), 'berth-bench-'))
  const group = join(cgroupRoot(), `berth-bench-${process.pid}`)
  const self = [process.execPath, ...process.execArgv, fileURLToPath(moduleUrl)]
  const command = [...(alone ? ownWorld(group) : ownMounts()), ...self, ...process.argv.slice(2)]
  try {
    if (alone) mkdirSync(join(group, LEAF), { recursive: true })
    process.exitCode = await statusOf(command, directory, alone)
  } finally {
    progress('what is left is removed')
    if (alone) await removeGroup(group)
    rmSync(directory, { recursive: true, force: true, maxRetries: 3 })
  }
}

/** Where all processes begin (no name of a container: runtimes kill the group that has it): a group that has them can hand no controllers on to those below it. */
const LEAF = 'berth-bench'

function ownWorld(group: string): string[] {
  const enter = 'echo $$ > "$0/cgroup.procs" && exec unshare --cgroup sh -c "$@"'
  const namespaces = 'exec unshare --mount --net --pid --fork --kill-child --mount-proc sh -c "$@"'
  const script = [
    'mount --make-rslave /',
    'mount -t cgroup2 cgroup2 /sys/fs/cgroup',
    'for name in $(cat /sys/fs/cgroup/cgroup.controllers); do echo +$name > /sys/fs/cgroup/cgroup.subtree_control || :; done',
    ...empty([TMPFS, ...OF_DAEMONS]),
    'ip link set lo up',
    // Not exec: the shell is the first process of the namespace, and waits for what nobody else does.
    '{ "$@"; exit $?; }',
  ].join(' && ')
  const toLeaf = `echo $$ > "$0/${LEAF}/cgroup.procs" && ${namespaces}`
  return ['sh', '-c', enter, group, toLeaf, group, script, 'sh']
}

function ownMounts(): string[] {
  const root = cgroupRoot()
  const script = [
    'mount --make-rslave /',
    ...(root === '/sys/fs/cgroup' ? [] : [`mount --bind ${root} /sys/fs/cgroup`]),
    ...empty([TMPFS]),
    'exec "$@"',
  ].join(' && ')
  return ['unshare', '--mount', 'sh', '-c', script, 'sh']
}

/** With a pod's mounts to be seen by its runtime's other processes. */
function empty(paths: readonly string[]): string[] {
  return [
    ...paths.map((path) => `mkdir -p ${path} && mount -t tmpfs tmpfs ${path}`),
    'mount --make-rshared /',
  ]
}

/** The exit status of the command, which a signal to this program ends, too. */
async function statusOf(
  [program = '', ...args]: string[],
  directory: string,
  alone: boolean,
): Promise<number> {
  const env = { ...process.env, TMPDIR: directory, [HERE]: '1' }
  const child = spawn(program, args, { stdio: 'inherit', env })
  // An interrupt from the terminal has reached the child already: what is left is to clean up.
  const interrupted = (): void => {}
  // With a world of its own all ends with the child; without, the child itself cleans up.
  const terminated = (): void => void child.kill(alone ? 'SIGKILL' : 'SIGTERM')
  process.on('SIGINT', interrupted)
  process.on('SIGTERM', terminated)
  try {
    return await ending(child)
  } finally {
    process.off('SIGINT', interrupted)
    process.off('SIGTERM', terminated)
  }
}

function ending(child: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (code, signal) =>
      resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal])),
    )
  })
}

async function removeGroup(group: string): Promise<void> {
  if (!existsSync(group)) return
  // Kernels before 5.14 have no such file: there, the namespace's end is waited for.
  const kill = join(group, 'cgroup.kill')
  if (existsSync(kill)) writeFileSync(kill, '1')
  const until = performance.now() + GROUP_MS
  for (;;) {
    try {
      return removeGroups(group)
    } catch (error) {
      if (performance.now() > until) throw error
      await delay(100)
    }
  }
}

function removeGroups(group: string): void {
  for (const entry of readdirSync(group, { withFileTypes: true }))
    if (entry.isDirectory()) removeGroups(join(group, entry.name))
  rmdirSync(group)
}
