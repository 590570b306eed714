import type { Attributes } from '../layer/index.ts'
import type { IdMapping, Spec } from '../spec/runtime.ts'

/** What a user namespace shows of an id that it has no number for (user_namespaces(7), overflowuid). */
const OVERFLOW_ID = 65534

/**
 * Attributes of files on the disk as a container with a user namespace sees them: owners, the owner of file capabilities, and the ids in access lists.
 * Undefined for a container without one.
 */
export function innerIds(spec: Spec): ((is: Attributes) => Attributes) | undefined {
  const uids = spec.linux?.uidMappings ?? []
  const gids = spec.linux?.gidMappings ?? []
  if (uids.length === 0 && gids.length === 0) return
  const uid = (id: number): number => inner(uids, id)
  const gid = (id: number): number => inner(gids, id)
  return (is) => ({
    ...is,
    uid: uid(is.uid),
    gid: gid(is.gid),
    xattrs: new Map(
      [...is.xattrs].map(([name, value]) => [name, attribute(name, value, uid, gid)]),
    ),
  })
}

function inner(mappings: readonly IdMapping[], id: number): number {
  const found = mappings.find(({ hostID, size }) => id >= hostID && id < hostID + size)
  return found ? found.containerID + id - found.hostID : OVERFLOW_ID
}

type Id = (id: number) => number

function attribute(name: string, value: Buffer, uid: Id, gid: Id): Buffer {
  if (name === 'security.capability') return capability(value, uid)
  if (name.startsWith('system.posix_acl_')) return accessList(value, uid, gid)
  return value
}

// Of struct vfs_ns_cap_data (linux/capability.h), little-endian everywhere: a revision 3 names the root it is good for.
const REVISION_BYTE = 3
const REVISION_2_BYTES = 20
const REVISION_3_BYTES = 24

function capability(value: Buffer, uid: Id): Buffer {
  if (value.length !== REVISION_3_BYTES || value[REVISION_BYTE] !== 3) return value
  const root = uid(value.readUInt32LE(REVISION_2_BYTES))
  const copy = Buffer.from(value)
  if (root !== 0) {
    copy.writeUInt32LE(root, REVISION_2_BYTES)
    return copy
  }
  copy[REVISION_BYTE] = 2
  return copy.subarray(0, REVISION_2_BYTES)
}

// Of struct posix_acl_xattr_entry (linux/posix_acl_xattr.h): after a version of 4 bytes, tag, permissions and id, little-endian.
const ACL_HEAD_BYTES = 4
const ACL_ENTRY_BYTES = 8
const ACL_USER = 2
const ACL_GROUP = 8

function accessList(value: Buffer, uid: Id, gid: Id): Buffer {
  const copy = Buffer.from(value)
  for (let at = ACL_HEAD_BYTES; at + ACL_ENTRY_BYTES <= copy.length; at += ACL_ENTRY_BYTES) {
    const tag = copy.readUInt16LE(at)
    const id = tag === ACL_USER ? uid : tag === ACL_GROUP ? gid : undefined
    if (id) copy.writeUInt32LE(id(copy.readUInt32LE(at + 4)), at + 4)
  }
  return copy
}
