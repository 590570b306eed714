/**
 * The bench's own part of the machine: a network namespace with nothing but loopback, and a mount namespace in which the places that daemons know by name
 * are empty and cgroup v2 is all there is (a hybrid host has it further down, where peers do not look).
 */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { cgroupRoot } from '../test/lib/needs.ts'

const HERE = 'BERTH_BENCH_WORLD'
/** Where the bench's own state is. */
export const TMPFS = '/run/berth-bench'
const OF_DAEMONS = ['/run/containerd', '/run/docker', '/run/netns', '/var/lib/cni']

/** What sudo leaves, as for a person's own call. With NODE_EXTRA_CA_CERTS, for one, Node reads a hundred certificates before it runs anything. */
export const ENVIRONMENT = Object.fromEntries(
  ['PATH', 'HOME', 'LANG', 'TERM', 'TMPDIR'].flatMap((name) => {
    const value = process.env[name]
    return value === undefined ? [] : [[name, value]]
  }),
)

/**
 * Runs `main` in such a world, by starting this very program again there: the exit status is that program's. Not `alone`, the host's network and daemons
 * stay in sight.
 */
export async function inWorld(
  moduleUrl: string,
  main: () => Promise<void>,
  alone = true,
): Promise<void> {
  if (process.env[HERE] !== undefined) return main()
  const script = [
    'mount --make-rslave /',
    ...(cgroupRoot() === '/sys/fs/cgroup' ? [] : [`mount --bind ${cgroupRoot()} /sys/fs/cgroup`]),
    ...[TMPFS, ...(alone ? OF_DAEMONS : [])].map(
      (path) => `mkdir -p ${path} && mount -t tmpfs tmpfs ${path}`,
    ),
    // A pod's mounts are to be seen by its runtime's other processes.
    'mount --make-rshared /',
    ...(alone ? ['ip link set lo up'] : []),
    'exec "$@"',
  ].join(' && ')
  const self = [process.execPath, ...process.execArgv, fileURLToPath(moduleUrl)]
  const { status, error } = spawnSync(
    'unshare',
    [
      '--mount',
      ...(alone ? ['--net'] : []),
      'sh',
      '-c',
      script,
      'sh',
      ...self,
      ...process.argv.slice(2),
    ],
    { stdio: 'inherit', env: { ...process.env, [HERE]: '1' } },
  )
  if (error) throw error
  process.exitCode = status ?? 1
}
