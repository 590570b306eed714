import { endianness } from 'node:os'
import { type ByteName, nameBytes } from './bytes.ts'

const IS_LITTLE = endianness() === 'LE'

/** Rows as the addon's createFile and setAttributes take them. */
export function packRows(xattrs: Iterable<readonly [ByteName, Uint8Array]>): Buffer {
  const parts: Uint8Array[] = []
  for (const [name, value] of xattrs) {
    const head = Buffer.alloc(2 + name.length + 1 + 4)
    const write16 = IS_LITTLE ? head.writeUInt16LE : head.writeUInt16BE
    const write32 = IS_LITTLE ? head.writeUInt32LE : head.writeUInt32BE
    write16.call(head, name.length + 1, 0)
    nameBytes(name).copy(head, 2)
    write32.call(head, value.length, 2 + name.length + 1)
    parts.push(head, value)
  }
  return Buffer.concat(parts)
}

/**
 * Whether an attribute belongs to a file's content and travels with it. The overlay's own marks (trusted.overlay.*, and user.overlay.* of an
 * overlay in a user namespace) never do: in an archive they are an attack or the debris of a raw copy. Nor do the host's policies
 * (security.selinux, .ima, .evm …); security.capability does.
 */
export function isKeptXattr(name: ByteName): boolean {
  if (name.startsWith('trusted.overlay.') || name.startsWith('user.overlay.')) return false
  if (name.startsWith('user.') || name.startsWith('trusted.')) return true
  return (
    name === 'security.capability' ||
    name === 'system.posix_acl_access' ||
    name === 'system.posix_acl_default'
  )
}

/** The attributes of an entry that its file gets, packed; undefined for none. Linux keeps user.* for files and directories alone. */
export function packXattrs(entry: {
  readonly kind: string
  readonly xattrs: ReadonlyMap<ByteName, Buffer>
}): Buffer | undefined {
  if (entry.xattrs.size === 0) return undefined
  const hasUser = entry.kind === 'file' || entry.kind === 'directory'
  const kept = [...entry.xattrs].filter(
    ([name]) => isKeptXattr(name) && (hasUser || !name.startsWith('user.')),
  )
  return kept.length === 0 ? undefined : packRows(kept)
}
