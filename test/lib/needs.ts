import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import type { Test } from 'uvu'

/**
 * What a test may need of its machine. `setup` is missing by choice (not root, a program not installed) and a skip for it is a
 * failure in CI; a `kernel` feature is missing for good.
 */
export type Need =
  | 'root'
  | 'overlay'
  | 'userns'
  | 'cgroup2'
  | 'zram'
  | `cgroup:${string}`
  | `filesystem:${string}`
  | `file:${string}`
  | `program:${string}`
  | `library:${string}`

/** Where a disk in memory can be had, such as one to swap to, once the module is loaded. */
export const ZRAM = '/sys/class/zram-control'

/** How the runner recognises a skip in a test's output. */
export const SKIP = /^# skipped \((setup|kernel)\): (.*)$/gm

/** Where this machine's v2 hierarchy is: /sys/fs/cgroup, or below it on a hybrid host. */
export function cgroupRoot(): string {
  return existsSync('/sys/fs/cgroup/cgroup.controllers')
    ? '/sys/fs/cgroup'
    : '/sys/fs/cgroup/unified'
}

/** What a shell in a mount namespace of its own does first, so that an engine finds a pure cgroup v2 on a hybrid host. */
export const PURE_CGROUP_VIEW =
  cgroupRoot() === '/sys/fs/cgroup' ? '' : `mount --bind ${cgroupRoot()} /sys/fs/cgroup && `

const SETUP = ['root', 'program', 'file', 'library']

/** Why the need is not met here; undefined where it is. */
export function lacks(need: Need): { kind: 'setup' | 'kernel'; reason: string } | undefined {
  const [name, value = ''] = need.split(/:(.*)/s)
  const kind = SETUP.includes(name ?? '') ? 'setup' : 'kernel'
  return isMet(name ?? '', value) ? undefined : { kind, reason: `needs ${need}` }
}

function isMet(name: string, value: string): boolean {
  switch (name) {
    case 'root':
      return process.getuid?.() === 0
    case 'overlay':
      return hasFilesystem('overlay')
    case 'filesystem':
      return hasFilesystem(value)
    case 'userns':
      return existsSync('/proc/self/ns/user')
    case 'cgroup2':
      return existsSync(join(cgroupRoot(), 'cgroup.controllers'))
    case 'zram':
      return existsSync(ZRAM)
    case 'cgroup':
      return controllers().includes(value)
    case 'file':
      return existsSync(value)
    case 'program':
      return (process.env['PATH'] ?? '').split(delimiter).some((d) => existsSync(join(d, value)))
    case 'library':
      return ['/usr/lib', '/usr/lib64', ...subfolders('/usr/lib')].some((directory) =>
        existsSync(join(directory, value)),
      )
    default:
      throw new Error(`no need is called ${name}`)
  }
}

/** Debian has libraries in one named by the machine. */
function subfolders(directory: string): string[] {
  return readdirSync(directory).map((name) => join(directory, name))
}

function hasFilesystem(type: string): boolean {
  return readFileSync('/proc/filesystems', 'utf8').split(/\s+/).includes(type)
}

function controllers(): string[] {
  try {
    return readFileSync(join(cgroupRoot(), 'cgroup.controllers'), 'utf8').trim().split(' ')
  } catch {
    return []
  }
}

/** Ends the file here, counted as one skip with its reason, unless the machine has all of it. */
export function needs(...all: Need[]): void {
  for (const need of all) {
    const lack = lacks(need)
    if (!lack) continue
    process.stdout.write(`# skipped (${lack.kind}): ${lack.reason}\n`)
    process.exit(0)
  }
}

/** `test` for a single claim that needs more than its file: skipped with the reason where the machine lacks it. */
export function needing(test: Test, ...all: Need[]): (name: string, claim: () => unknown) => void {
  return (name, claim) => {
    for (const need of all) {
      const lack = lacks(need)
      if (!lack) continue
      process.stdout.write(`# skipped (${lack.kind}): ${name}: ${lack.reason}\n`)
      // The reason is lack.reason, printed above: a kernel feature or program that this machine has not. In CI a lack that installing would
      // cure is a failure (scripts/verdict.ts); it runs wherever the need is met.
      test.skip(name)
      return
    }
    test(name, async () => {
      await claim()
    })
  }
}
