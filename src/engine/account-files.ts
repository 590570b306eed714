import { readFileInside } from '../kernel/inside.ts'
import { overlayMount } from '../kernel/mount-api.ts'
import { ACCOUNT_FILE_BYTES_MAX } from './users.ts'

/** Text of a root's /etc/passwd and /etc/group; '' where it has none. */
export interface AccountFiles {
  readonly passwd: string
  readonly group: string
}

/** Images whose files are remembered, and the characters of one that are worth it: most have a few hundred. */
const REMEMBERED_MAX = 256
const REMEMBERED_LENGTH_MAX = 64 * 1024

/** By the layers' directories: what is in one never changes under its name. */
const remembered = new Map<string, AccountFiles>()

/** /etc/passwd and /etc/group of a root made of these layers, topmost first. */
export function accountFiles(lower: readonly string[]): AccountFiles {
  const key = lower.join('\0')
  const known = remembered.get(key)
  if (known) return known
  const files = readAccountFiles(lower)
  if (files.passwd.length + files.group.length > REMEMBERED_LENGTH_MAX) return files
  if (remembered.size >= REMEMBERED_MAX) remembered.clear()
  remembered.set(key, files)
  return files
}

function readAccountFiles(lower: readonly string[]): AccountFiles {
  using view = overlayMount({ lower })
  const files = accountFilesIn(view.number)
  view.closeAside()
  return files
}

/** Those of the root that a descriptor leads to. */
export function accountFilesIn(rootFd: number): AccountFiles {
  const read = (path: string): string =>
    readFileInside(rootFd, path, ACCOUNT_FILE_BYTES_MAX)?.toString('utf8') ?? ''
  return { passwd: read('/etc/passwd'), group: read('/etc/group') }
}
