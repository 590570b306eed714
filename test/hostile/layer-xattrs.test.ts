import { closeSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { binding } from '../../src/kernel/binding.ts'
import { Scratch } from '../lib/archive.ts'

const dropped = [
  'trusted.overlay.opaque',
  'trusted.overlay.redirect',
  'trusted.overlay.metacopy',
  'trusted.overlay.whiteout',
  'trusted.overlay.overlay.opaque',
  'user.overlay.opaque',
  'user.overlay.redirect',
  'security.selinux',
  'security.ima',
  'system.nfs4_acl',
]

test("overlayfs's own marks and the host's policies never come out of an archive", async () => {
  using scratch = new Scratch()
  const pax = dropped.map((name) => [`SCHILY.xattr.${name}`, 'y'] as [string, string])
  const tree = await scratch.tree(
    { name: './', type: '5', pax },
    { name: 'd/', type: '5', pax: [...pax, ['SCHILY.xattr.trusted.mine', 'kept']] },
    { name: 'd/f', content: 'x', pax },
    {
      name: 'l',
      type: '2',
      link: 'd',
      pax: [
        ['SCHILY.xattr.user.a', 'no place on a link'],
        ['SCHILY.xattr.trusted.t', 'kept'],
      ],
    },
  )
  const names = (path: string): string[] => {
    const fd = openSync(path, 'r')
    try {
      return binding.flistxattr(fd)
    } finally {
      closeSync(fd)
    }
  }
  assert.equal(names(tree), [])
  assert.equal(names(join(tree, 'd')), ['trusted.mine'])
  assert.equal(names(join(tree, 'd/f')), [])
})

test.run()
