import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Fault } from '../../../src/base/fault.ts'
import { MOUNT_OPTIONS, planContainer } from '../../../src/plan/index.ts'
import { MOUNT_ATTR as A, MS } from '../../../src/spec/linux.ts'
import type { MountPlan } from '../../../src/spec/plan.ts'
import type { Linux, Mount } from '../../../src/spec/runtime.ts'
import { FACTS, namespaces, PLACE, spec } from './facts.ts'

function plan(mount: Mount, linux: Linux = spec().linux ?? {}): MountPlan {
  const { plan } = planContainer(spec({ mounts: [mount], linux }), FACTS, {
    ...PLACE,
    bundle: '/b',
  })
  const [first] = plan.mounts
  assert.ok(first)
  return first
}

const bind = (...options: string[]): MountPlan =>
  plan({ destination: '/m', type: 'none', source: '/s', options: ['bind', ...options] })
const tmpfs = (...options: string[]): MountPlan =>
  plan({ destination: '/m', type: 'tmpfs', source: 'tmpfs', options })

const attributes: [options: string[], set: number, clear: number][] = [
  [['ro'], A.RDONLY, 0],
  [['rw'], 0, A.RDONLY],
  [['ro', 'rw'], 0, A.RDONLY],
  [['nosuid', 'nodev', 'noexec'], A.NOSUID | A.NODEV | A.NOEXEC, 0],
  [['suid', 'dev', 'exec'], 0, A.NOSUID | A.NODEV | A.NOEXEC],
  [['nodiratime'], A.NODIRATIME, 0],
  [['diratime'], 0, A.NODIRATIME],
  [['nosymfollow'], A.NOSYMFOLLOW, 0],
  [['symfollow'], 0, A.NOSYMFOLLOW],
  [['noatime'], A.NOATIME, A.ATIME],
  [['strictatime'], A.STRICTATIME, A.ATIME],
  [['relatime'], 0, A.ATIME],
  [['noatime', 'relatime'], 0, A.ATIME],
  [['strictatime', 'atime'], A.STRICTATIME, A.ATIME],
  [['noatime', 'atime'], 0, A.ATIME],
  [['noatime', 'norelatime'], A.NOATIME, A.ATIME],
  [['strictatime', 'nostrictatime'], 0, A.ATIME],
  [['defaults', 'loud', 'silent', 'async', 'nolazytime', 'nomand', 'noiversion'], 0, 0],
]
for (const [options, set, clear] of attributes) {
  test(`${options.join(',')} becomes attributes of the mount`, () => {
    const mount = bind(...options)
    assert.equal([mount.setAttributes, mount.clearAttributes], [set, clear])
    assert.equal([mount.setAttributesRecursive, mount.clearAttributesRecursive], [0, 0])
  })
  const known = options.filter((o) => MOUNT_OPTIONS.includes(`r${o}`))
  if (known.length < options.length) continue
  test(`r${options.join(',r')} becomes attributes of the tree`, () => {
    const mount = bind(...options.map((o) => `r${o}`))
    assert.equal([mount.setAttributesRecursive, mount.clearAttributesRecursive], [set, clear])
    assert.equal([mount.setAttributes, mount.clearAttributes], [0, 0])
  })
}

const propagations: [string, number][] = [
  ['private', MS.PRIVATE],
  ['rprivate', MS.PRIVATE | MS.REC],
  ['slave', MS.SLAVE],
  ['rslave', MS.SLAVE | MS.REC],
  ['shared', MS.SHARED],
  ['rshared', MS.SHARED | MS.REC],
  ['unbindable', MS.UNBINDABLE],
  ['runbindable', MS.UNBINDABLE | MS.REC],
]
for (const [option, flags] of propagations) {
  test(`${option} is the propagation`, () => assert.is(bind(option).propagation, flags))
}

test('a bind mount is recursively private unless asked otherwise', () => {
  assert.is(bind().propagation, MS.PRIVATE | MS.REC)
  assert.is(tmpfs().propagation, 0)
})

test('every option of the specification is known', () => {
  const names =
    'async atime bind defaults dev diratime dirsync exec iversion lazytime loud mand noatime nodev nodiratime noexec noiversion ' +
    'nolazytime nomand norelatime nostrictatime nosuid nosymfollow private ratime rbind rdev rdiratime relatime remount rexec ' +
    'rnoatime rnodev rnodiratime rnoexec rnorelatime rnostrictatime rnosuid rnosymfollow ro rprivate rrelatime rro rrw rshared ' +
    'rslave rstrictatime rsuid rsymfollow runbindable rw shared silent slave strictatime suid symfollow sync tmpcopyup unbindable ' +
    'idmap ridmap'
  for (const name of names.split(' ')) assert.ok(MOUNT_OPTIONS.includes(name), name)
})

test('what no one knows is data of the file system, in order', () => {
  const mount = tmpfs('size=65536k', 'nosuid', 'mode=755', 'sync', 'huge=never')
  assert.equal(mount.options, ['sync', 'size=65536k', 'mode=755', 'huge=never'])
})

test('ro is an option of a file system on a device, too', () => {
  const mount = plan({ destination: '/m', type: 'ext4', source: '/dev/x', options: ['ro'] })
  assert.equal(mount.options, ['ro'])
  assert.is(mount.setAttributes, A.RDONLY)
  assert.equal(tmpfs('ro').options, [])
})

test('rbind clones the tree, bind one mount, type bind alone too', () => {
  assert.is(bind().recursive, false)
  assert.is(bind('rbind').recursive, true)
  const plain = plan({ destination: '/m', type: 'bind', source: '/s' })
  assert.equal([plain.kind, plain.recursive, plain.type], ['bind', false, ''])
})

test('a relative source is below the bundle, a relative destination below the root', () => {
  const mount = plan({ destination: 'data/', type: 'bind', source: '../x/y', options: ['rbind'] })
  assert.equal([mount.source, mount.target], ['/x/y', '/data'])
})

test('a destination cannot climb', () => {
  assert.is(plan({ destination: '/../../a/../b', type: 'tmpfs' }).target, '/b')
})

test('cgroup means cgroup2', () => {
  const mount = plan({
    destination: '/sys/fs/cgroup',
    type: 'cgroup',
    source: 'cgroup',
    options: ['ro'],
  })
  assert.equal([mount.type, mount.kind, mount.options], ['cgroup2', 'new', []])
})

test("cgroup2 keeps the host's options where the namespace is the host's", () => {
  const mount = plan(
    { destination: '/sys/fs/cgroup', type: 'cgroup', source: 'cgroup' },
    { namespaces: namespaces('mount') },
  )
  assert.equal(mount.options, ['nsdelegate', 'memory_recursiveprot'])
})

test('idmap takes its mappings, or the user namespace', () => {
  const ids = [{ containerID: 0, hostID: 5, size: 9 }]
  const own = plan({
    destination: '/m',
    source: '/s',
    options: ['bind'],
    uidMappings: ids,
    gidMappings: ids,
  })
  const map = [{ inside: 0, outside: 5, size: 9 }]
  assert.equal(own.idmap, { uids: map, gids: map })
  const linux = { namespaces: namespaces('mount', 'user'), uidMappings: ids, gidMappings: ids }
  assert.is(
    plan({ destination: '/m', source: '/s', options: ['rbind', 'ridmap'] }, linux).idmap,
    'container',
  )
})

test('order is kept', () => {
  const mounts = ['/z', '/a', '/z/b'].map((destination) => ({ destination, type: 'tmpfs' }))
  const { plan } = planContainer(spec({ mounts }), FACTS, PLACE)
  assert.equal(
    plan.mounts.map((m) => m.target),
    ['/z', '/a', '/z/b'],
  )
})

test('an option that a bind mount cannot have is warned of', () => {
  const options = ['sync', 'size=1k', 'async']
  const mounts = [{ destination: '/m', type: 'bind', source: '/s', options }]
  const { warnings } = planContainer(spec({ mounts }), FACTS, PLACE)
  assert.equal(warnings, [
    'mounts[0].options: "sync" has no effect on a bind mount: it belongs to the file system',
    'mounts[0].options: "size=1k" has no effect on a bind mount: it belongs to the file system',
  ])
})

const refused: [string, Mount, RegExp][] = [
  ['no type', { destination: '/m', source: 'x' }, /neither a type/],
  ['the root', { destination: '/x/..', type: 'tmpfs' }, /hide the root/],
  ['below /proc', { destination: '/proc/sys', type: 'tmpfs' }, /inside \/proc/],
  ['/proc not of proc', { destination: '/proc/', type: 'tmpfs' }, /only a proc/],
  [
    '/proc of something below /proc',
    { destination: '/proc', type: 'bind', source: '/proc/1/root/etc' },
    /only a proc/,
  ],
  ['a NUL', { destination: '/a\0b', type: 'tmpfs' }, /NUL/],
  ['a bind without source', { destination: '/m', options: ['bind'] }, /needs one/],
  [
    'two propagations',
    { destination: '/m', source: '/s', options: ['bind', 'shared', 'slave'] },
    /contradicts/,
  ],
  ['tmpcopyup of proc', { destination: '/m', type: 'proc', options: ['tmpcopyup'] }, /tmpcopyup/],
  [
    'idmap without mappings',
    { destination: '/m', source: '/s', options: ['bind', 'idmap'] },
    /idmap needs/,
  ],
  [
    'half a mapping',
    {
      destination: '/m',
      source: '/s',
      options: ['bind'],
      uidMappings: [{ containerID: 0, hostID: 0, size: 1 }],
    },
    /together/,
  ],
  ['a type with a slash', { destination: '/m', type: '../x' }, /no name of a file system/],
]
for (const [name, mount, message] of refused) {
  test(`${name} is refused by field`, () => {
    assert.throws(
      () => plan(mount),
      (e: unknown) =>
        e instanceof Fault && message.test(e.message) && e.message.startsWith('mounts[0]'),
    )
  })
}

test('sysfs and proc in a user namespace need the namespaces they show', () => {
  const ids = [{ containerID: 0, hostID: 5, size: 9 }]
  const linux = { namespaces: namespaces('mount', 'user'), uidMappings: ids, gidMappings: ids }
  assert.throws(() => plan({ destination: '/sys', type: 'sysfs' }, linux), /network namespace/)
  assert.throws(() => plan({ destination: '/proc', type: 'proc' }, linux), /pid namespace/)
})

const layers = (...options: string[]): MountPlan =>
  plan({ destination: '/m', type: 'overlay', source: 'overlay', options })

test('layers without an upper directory are a view that is bound, read-only whatever is said', () => {
  const mount = layers('lowerdir+=/a', 'lowerdir+=/b/', 'rw', 'noexec')
  assert.equal([mount.kind, mount.lower, mount.source], ['bind', ['/a', '/b'], '/'])
  assert.is(mount.setAttributes, A.RDONLY | A.NOEXEC)
  assert.is(mount.clearAttributes, 0)
  assert.is(layers('lowerdir+=/a', 'berth.path=/sub/x').source, '/sub/x')
})

test('an overlay in the kernel’s other words stays one', () => {
  const mount = layers('lowerdir=/a:/b')
  assert.equal([mount.kind, mount.type, mount.lower], ['new', 'overlay', undefined])
})

test('what goes not with a view is refused by name', () => {
  for (const options of [
    ['lowerdir+=/a', 'upperdir=/u'],
    ['lowerdir+=/a', 'metacopy=on'],
    ['lowerdir+=a'],
    ['lowerdir+=/a', 'berth.path=x'],
    Array(501).fill('lowerdir+=/a') as string[],
  ]) {
    try {
      layers(...options)
      assert.unreachable(`taken: ${options.join().slice(0, 80)}`)
    } catch (error) {
      assert.instance(error, Fault)
      assert.match((error as Fault).message, /mounts\[0\]\.options/)
    }
  }
})

test.run()
