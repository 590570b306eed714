import { readFileSync, readlinkSync } from 'node:fs'
import { binding } from '../kernel/binding.ts'

/** The kernel's number of the first user namespace (PROC_USER_INIT_INO): whoever has another one is not told of all. */
const FIRST_USER_NAMESPACE = 'user:[4026531837]'

export interface MountNamespace {
  /** As /proc/PID/ns/mnt says it; a later one may have the same. */
  readonly namespace: string
  /** No later one has it; missing where the kernel does not tell. */
  readonly namespaceId?: string | undefined
}

export function ownMountNamespace(): MountNamespace {
  const id = binding.mountNamespaces()?.[0]
  const namespace = readlinkSync('/proc/self/ns/mnt')
  return id === undefined ? { namespace } : { namespace, namespaceId: String(id) }
}

/** Of a record: whether we are in it. */
export function isOwn({ namespace, namespaceId }: MountNamespace): boolean {
  const own = ownMountNamespace()
  return namespace === own.namespace && namespaceId === own.namespaceId
}

/** Whether something is mounted at a path, in our mount namespace. */
export function isMountedHere(path: string): boolean {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .some((line) => (line.split(' ')[4] ?? '').replace(/\\(\d{3})/g, octal) === path)
}

function octal(_: string, digits: string): string {
  return String.fromCharCode(Number.parseInt(digits, 8))
}

/** Whether a mount namespace may still be there, with a process in it or without. True where the kernel does not tell. */
export function mayLive({ namespaceId }: MountNamespace): boolean {
  if (readlinkSync('/proc/self/ns/user') !== FIRST_USER_NAMESPACE) return true
  const all = binding.mountNamespaces()
  return namespaceId === undefined || all === undefined || all.includes(BigInt(namespaceId))
}
