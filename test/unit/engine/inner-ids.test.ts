import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { innerIds } from '../../../src/engine/inner-ids.ts'
import type { Spec } from '../../../src/spec/runtime.ts'

const spec: Spec = {
  ociVersion: '1.3.0',
  linux: {
    uidMappings: [{ containerID: 0, hostID: 1000, size: 10 }],
    gidMappings: [{ containerID: 0, hostID: 2000, size: 10 }],
  },
}
const plain = { mode: 0o644, uid: 0, gid: 0, mtimeNs: 7n, xattrs: new Map<string, Buffer>() }
const inner = innerIds(spec)
const attribute = (name: string, value: Buffer) =>
  inner?.({ ...plain, xattrs: new Map([[name, value]]) }).xattrs.get(name)

test('a container without a user namespace has the ids of the disk', () => {
  assert.is(innerIds({ ociVersion: '1.3.0', linux: {} }), undefined)
})

test('owners are those that the container sees; one it has no number for is nobody', () => {
  const owner = (uid: number, gid: number) => {
    const is = inner?.({ ...plain, uid, gid })
    return [is?.uid, is?.gid, is?.mtimeNs]
  }
  assert.equal(owner(1000, 2009), [0, 9, 7n])
  assert.equal(owner(999, 2010), [65534, 65534, 7n])
  assert.equal(owner(0, 0), [65534, 65534, 7n])
})

/** struct vfs_ns_cap_data; without a root the older struct. */
function capability(root?: number): Buffer {
  const value = Buffer.alloc(root === undefined ? 20 : 24)
  value.writeUInt32LE((root === undefined ? 2 : 3) * 0x1000000 + 1, 0)
  value.writeUInt32LE(1 << 13, 4)
  if (root !== undefined) value.writeUInt32LE(root, 20)
  return value
}

test("file capabilities of the namespace's root become plain ones", () => {
  const name = 'security.capability'
  assert.equal(attribute(name, capability(1000)), capability())
  assert.equal(attribute(name, capability(1004)), capability(4))
  assert.equal(attribute(name, capability()), capability())
  assert.equal(attribute('user.x', capability(1000)), capability(1000))
})

test('named users and groups of access lists are mapped, the owner entries are not', () => {
  const list = (user: number, group: number): Buffer => {
    const value = Buffer.alloc(4 + 4 * 8)
    value.writeUInt32LE(2, 0)
    for (const [i, [tag, id]] of (
      [
        [1, 0xffffffff],
        [2, user],
        [8, group],
        [32, 0xffffffff],
      ] as const
    ).entries()) {
      value.writeUInt16LE(tag, 4 + i * 8)
      value.writeUInt16LE(7, 6 + i * 8)
      value.writeUInt32LE(id, 8 + i * 8)
    }
    return value
  }
  assert.equal(attribute('system.posix_acl_access', list(1005, 2006)), list(5, 6))
})

test.run()
