import { invalid, show, text } from './check.ts'
import type { Namespaces } from './namespaces.ts'

const SYSCTLS_MAX = 1024
const NAME_BYTES_MAX = 256
/** The kernel takes at most a page in one write. */
const VALUE_BYTES_MAX = 4096

/** Everything else of kernel.* and fs.* is the whole machine's (man 7 ipc_namespaces, linux/ipc/ipc_sysctl.c). */
const IPC = new Set(
  [
    'auto_msgmni',
    'msg_next_id',
    'msgmax',
    'msgmnb',
    'msgmni',
    'sem',
    'sem_next_id',
    'shm_next_id',
    'shm_rmid_forced',
    'shmall',
    'shmmax',
    'shmmni',
  ].map((name) => `kernel/${name}`),
)
const UTS = new Set(['kernel/hostname', 'kernel/domainname'])

/**
 * [path below /proc/sys, value]. Only what belongs to a namespace that the container does not share with the host is written: anything else would change
 * the host (CVE-2022-0532), and a name or value with a line end or path tricks could become another one (CVE-2022-0811).
 */
export function planSysctls(
  sysctl: Readonly<Record<string, string>> | undefined,
  namespaces: Namespaces,
  hostname: string | undefined,
  list = 'linux.sysctl',
): [string, string][] {
  const entries = Object.entries(sysctl ?? {})
  if (entries.length > SYSCTLS_MAX) throw invalid(list, `has more than ${SYSCTLS_MAX} entries`)
  const planned = new Map<string, string>()
  for (const [name, value] of entries) {
    const field = `${list} ${show(name)}`
    const path = sysctlPath(field, name)
    const needed = namespaceOf(path)
    if (needed === undefined) {
      throw invalid(field, 'belongs to no namespace: it would change the whole host')
    }
    if (!namespaces.isOwn(needed)) {
      throw invalid(field, `needs a ${needed} namespace that is not the host's`)
    }
    text(field, value, VALUE_BYTES_MAX)
    // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for.
    if (/[\x01-\x08\x0a-\x1f\x7f]/.test(value))
      throw invalid(field, 'its value holds a control character')
    if (path === 'kernel/hostname' && hostname !== undefined && hostname !== value) {
      throw invalid(field, 'contradicts hostname')
    }
    if (planned.has(path)) throw invalid(field, 'is given twice')
    planned.set(path, value)
  }
  return [...planned]
}

/** sysctl(8): where the first separator is a slash, dots are part of names; otherwise dots separate and a slash stands for a dot (eth0/1). */
function sysctlPath(field: string, name: string): string {
  text(field, name, NAME_BYTES_MAX)
  const dotted = /^[^/]*\./.test(name)
  const parts = dotted ? name.split('.').map((part) => part.replaceAll('/', '.')) : name.split('/')
  const good = parts.every((part) => /^[A-Za-z0-9_.:@-]+$/.test(part) && !/^\.+$/.test(part))
  if (!good || parts.length < 2) throw invalid(field, 'is no name of a sysctl')
  return parts.join('/')
}

function namespaceOf(path: string): 'ipc' | 'network' | 'uts' | 'user' | undefined {
  if (IPC.has(path) || path.startsWith('fs/mqueue/')) return 'ipc'
  if (UTS.has(path)) return 'uts'
  if (path.startsWith('net/')) return 'network'
  if (path.startsWith('user/')) return 'user'
  return undefined
}
