/** The fallback without idmapped mounts: owners are changed, and what a change of owner takes away is given back. */
import {
  chmodSync,
  chownSync,
  copyFileSync,
  linkSync,
  mkdirSync,
  openSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { binding } from '../../src/kernel/binding.ts'
import { Fd } from '../../src/kernel/fd.ts'
import { type Given, ID_MAPPINGS, NEW, Place, PROBE, probe } from '../lib/inside.ts'
import { needs } from '../lib/needs.ts'
import { traces } from '../lib/traces.ts'

needs('root', 'overlay', 'userns')

const place = new Place()
const clean = traces({ roots: [place.directory] })

/** VFS_CAP_REVISION_2 with the effective bit; CAP_NET_RAW is 13. */
const NET_RAW = Buffer.from('0100000200200000000000000000000000000000', 'hex')

for (const [name, mode, uid, gid] of [
  ['set-uid', 0o4755, 0, 0],
  ['set-gid', 0o2755, 0, 7],
  ['both', 0o6711, 5, 6],
  ['capable', 0o755, 0, 0],
] as const) {
  const path = join(place.lower, 'bin', name)
  copyFileSync(PROBE, path)
  chownSync(path, uid, gid)
  chmodSync(path, mode)
  if (name !== 'capable') continue
  using fd = new Fd(openSync(path, 'r'))
  binding.fsetxattr(fd.number, 'security.capability', NET_RAW, 0)
}
mkdirSync(join(place.lower, 'shared'))
chownSync(join(place.lower, 'shared'), 3, 4)
chmodSync(join(place.lower, 'shared'), 0o3775)
symlinkSync('/etc/from-layer', join(place.lower, 'link'))
writeFileSync(join(place.lower, 'one'), 'x')
linkSync(join(place.lower, 'one'), join(place.lower, 'two'))

/** Nobody's capabilities but those of the file that is executed. */
const NOBODY = {
  uid: 1000,
  gid: 1000,
  noNewPrivileges: false,
  capabilities: { bounding: 1n << 13n, effective: 0n, permitted: 0n, inheritable: 0n, ambient: 0n },
}

function mapped(given: Given, chown = true): Given {
  const plan = place.plan(given)
  const root = plan.root
  assert.ok(root.kind === 'overlay')
  return {
    ...given,
    namespaces: [...NEW, 'user' as const].map((type) => ({ type })),
    idMappings: ID_MAPPINGS,
    root: { ...root, options: chown ? ['berth.chown'] : [] },
  }
}

const PATHS = ['set-uid', 'set-gid', 'both', 'capable', 'probe'].map((name) => `/bin/${name}`)
const stat = probe('stat', ...PATHS, '/shared', '/link', '/etc/from-layer', '/two')

test('owners, and set-id bits are those that an idmapped mount shows, at the first run and the next', () => {
  // A copy is no hard link any more, and overlayfs tells another count for a merged directory.
  const withoutLinks = (text: string) => text.replace(/ \d+ (\d+:\d+)$/gm, ' $1')
  const idmapped = place.run(mapped(stat, false))
  assert.is(idmapped.code, 0, idmapped.err)
  place.reset()
  for (let run = 0; run < 2; run++) {
    const ran = place.run(mapped(stat))
    assert.equal([ran.code, withoutLinks(ran.out)], [0, withoutLinks(idmapped.out)], ran.err)
  }
})

for (const chown of [false, true]) {
  const how = chown ? 'changed owners' : 'an idmapped mount'
  test(`a set-uid program and one with file capabilities work with ${how}`, () => {
    const setUid = place.run(mapped({ args: ['/bin/set-uid', 'id'], process: NOBODY }, chown))
    assert.match(setUid.out, /euid[= ]0|uid=1000.*0/, setUid.out + setUid.err)
    const capable = place.run(mapped({ args: ['/bin/capable', 'caps'], process: NOBODY }, chown))
    assert.match(capable.out, /^effective NET_RAW$/m, capable.err)
    place.reset()
  })
}

test('a range that overlaps with the ids inside is refused: owners could not be told apart', () => {
  const range = [{ inside: 0, outside: 1000, size: 65536 }]
  const given = mapped(probe('true'))
  const ran = place.run({ ...given, idMappings: { uids: range, gids: range } })
  assert.is(ran.code, 125)
  assert.match(ran.err, /^chown: ids inside and outside/)
})

test('nothing is left behind', async () => {
  place.remove()
  await clean()
})

test.run()
