import {
  chmodSync,
  chownSync,
  copyFileSync,
  mkdirSync,
  readlinkSync,
  rmdirSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { NamespaceType } from '../../src/spec/plan.ts'
import { bind, ID_MAPPINGS, MAPPED, MOUNTS, NEW, Place, PROBE, probe } from '../lib/inside.ts'
import { cgroupRoot, needs } from '../lib/needs.ts'
import { traces } from '../lib/traces.ts'

needs('root', 'overlay', 'userns', 'cgroup2')

const place = new Place()
const clean = traces({ roots: [place.directory] })

/** Each type by its name below /proc/PID/ns. */
const FILES: Record<NamespaceType, string> = {
  mount: 'mnt',
  pid: 'pid',
  network: 'net',
  ipc: 'ipc',
  uts: 'uts',
  user: 'user',
  cgroup: 'cgroup',
  time: 'time',
}
const TYPES = Object.keys(FILES) as NamespaceType[]

function only(...types: readonly NamespaceType[]): { namespaces: { type: NamespaceType }[] } {
  return { namespaces: types.map((type) => ({ type })) }
}

for (const type of TYPES) {
  test(`a new ${type} namespace is not the host's`, () => {
    const types = NEW.includes(type) ? NEW : [...NEW, type]
    const ran = place.run({
      ...probe('readlink', `/proc/self/ns/${FILES[type]}`),
      ...only(...types),
      ...(type === 'user' ? { idMappings: ID_MAPPINGS } : {}),
    })
    assert.is(ran.code, 0, ran.err)
    assert.match(ran.out, new RegExp(`^${FILES[type]}:\\[\\d+\\]\n$`))
    assert.is.not(ran.out.trim(), readlinkSync(`/proc/self/ns/${FILES[type]}`))
    place.reset()
  })

  if (type === 'mount') continue
  test(`a ${type} namespace that is not asked for is the host's`, () => {
    const ran = place.run({
      ...probe('readlink', `/proc/self/ns/${FILES[type]}`),
      ...only(...NEW.filter((t) => t !== type)),
      loopback: type !== 'network',
    })
    assert.is(ran.code, 0, ran.err)
    assert.is(ran.out.trim(), readlinkSync(`/proc/self/ns/${FILES[type]}`))
  })
}

for (const type of TYPES) {
  test(`a ${type} namespace is joined by its path`, async () => {
    const user = type === 'user'
    const ids = user ? { idMappings: ID_MAPPINGS } : {}
    const first = await place.start({
      ...probe('trap'),
      ...only(...new Set<NamespaceType>([...NEW, type])),
      ...ids,
    })
    const second = new Place()
    // The /proc of a joined mount namespace shows only processes of the pid namespace that belongs to it.
    const alone: NamespaceType[] = type === 'mount' ? ['pid'] : []
    try {
      const path = `/proc/${first.pid}/ns/${FILES[type]}`
      const ran = second.run({
        ...probe('readlink', `/proc/self/ns/${FILES[type]}`),
        ...ids,
        namespaces: [
          ...NEW.filter((t) => t !== type && !alone.includes(t)).map((t) => ({ type: t })),
          ...alone.map((t) => ({ type: t, path: `/proc/${first.pid}/ns/${FILES[t]}` })),
          { type, path },
        ],
        loopback: type !== 'network',
      })
      assert.is(ran.err, '')
      assert.is(ran.out.trim(), readlinkSync(path))
      assert.is(ran.code, 0)
    } finally {
      second.remove()
      await first.end()
      place.reset()
    }
  })
}

test('a path that is another kind of namespace is refused by name', () => {
  const ran = place.run({
    ...probe('true'),
    namespaces: [{ type: 'mount' }, { type: 'network', path: '/proc/self/ns/uts' }],
  })
  assert.is(ran.code, 125)
  assert.match(ran.err, /^namespace: \/proc\/self\/ns\/uts is no network namespace/)
})

test('a time namespace has the offsets of the plan', () => {
  const ran = place.run({
    ...probe('clock'),
    ...only(...NEW, 'time'),
    monotonicOffset: { seconds: 1_000_000n, nanoseconds: 5 },
    boottimeOffset: { seconds: 2_000_000n, nanoseconds: 0 },
  })
  assert.is(ran.err, '')
  const [, monotonic, boottime] = /monotonic (\d+)\.\d+ boottime (\d+)/.exec(ran.out) ?? []
  assert.ok(Number(monotonic) >= 1_000_000 && Number(monotonic) < 2_000_000, ran.out)
  assert.ok(Number(boottime) >= 2_000_000, ran.out)
})

test('the root of the cgroup namespace is the cgroup of the plan', () => {
  const cgroup = join(cgroupRoot(), `berth-inside-${process.pid}`)
  mkdirSync(cgroup)
  try {
    for (const user of [false, true]) {
      const ran = place.run({
        ...probe('cat', '/proc/self/cgroup'),
        ...only(...NEW, ...(user ? (['user'] as const) : [])),
        ...(user ? { idMappings: ID_MAPPINGS } : {}),
        cgroup,
      })
      assert.match(ran.out, /^0::\/$/m, ran.err)
      place.reset()
    }
  } finally {
    rmdirSync(cgroup)
  }
})

test('hostname, domain name, lo and sysctls are the container own', () => {
  const plan = {
    hostname: 'inside-host',
    domainname: 'inside-domain',
    sysctls: [
      ['net/ipv4/ip_unprivileged_port_start', '7'],
      ['kernel/shmmni', '99'],
    ] as const,
  }
  const cat = [
    '/proc/sys/kernel/hostname',
    '/proc/sys/kernel/domainname',
    '/proc/sys/net/ipv4/ip_unprivileged_port_start',
    '/proc/sys/kernel/shmmni',
  ]
  for (const user of [false, true]) {
    const mapped = user ? { idMappings: ID_MAPPINGS } : {}
    const types = only(...NEW, ...(user ? (['user'] as const) : []))
    const ran = place.run({ ...plan, ...probe('cat', ...cat), ...types, ...mapped })
    assert.equal(ran, { code: 0, out: 'inside-host\ninside-domain\n7\n99\n', err: '' })
    assert.match(place.run({ ...probe('interfaces'), ...types, ...mapped }).out, /^lo up/m)
    place.reset()
  }
})

test('under a user namespace root is 0 inside, the layers are unmapped on disk, and writes are mapped', () => {
  const user = { ...only(...NEW, 'user'), idMappings: ID_MAPPINGS }
  const seen = place.run({ ...user, ...probe('stat', '/', '/etc/from-layer', '/dev/null') })
  assert.is(seen.err, '')
  assert.match(seen.out, /^\/ dir\w* \d+ 0:0/m)
  assert.match(seen.out, /^\/etc\/from-layer file \d+ 0:0/m)
  assert.match(seen.out, /^\/dev\/null char\w* 0666 0:0 .*1:3/m)
  assert.is(statSync(join(place.lower, 'etc/from-layer')).uid, 0)
  assert.is(place.run({ ...user, ...probe('append-file', '/etc/from-layer', 'more') }).err, '')
  assert.is(statSync(place.path('upper/etc/from-layer')).uid, MAPPED)
  assert.is(statSync(join(place.lower, 'etc/from-layer')).size, 'layer\n'.length)
  assert.is(place.run({ ...user, ...probe('write-file', '/dev/null', 'x') }).err, '')
  place.reset()
})

test('a bind mount mapped to the container shows the host owner as the same id inside', () => {
  const shared = place.make('shared')
  writeFileSync(join(shared, 'file'), '')
  chownSync(join(shared, 'file'), 7, 8)
  const run = (idmap: boolean) =>
    place.run({
      ...only(...NEW, 'user'),
      idMappings: ID_MAPPINGS,
      ...probe('stat', '/mnt/file'),
      mounts: [...MOUNTS, bind(shared, '/mnt', idmap ? { idmap: 'container' } : {})],
    })
  assert.match(run(true).out, / 7:8 /)
  assert.match(run(false).out, / 65534:65534 /)
  const explicit = place.run({
    ...probe('stat', '/mnt/file'),
    mounts: [
      ...MOUNTS,
      bind(shared, '/mnt', {
        idmap: {
          uids: [{ inside: 7, outside: 70, size: 1 }],
          gids: [{ inside: 8, outside: 80, size: 1 }],
        },
      }),
    ],
  })
  assert.match(explicit.out, / 70:80 /, explicit.err)
  place.reset()
})

test('berth.chown gives every file to the mapped owner where mounts cannot be mapped, twice alike', () => {
  const program = join(place.lower, 'bin/setuid')
  copyFileSync(PROBE, program)
  chmodSync(program, 0o4755)
  const plan = place.plan({ args: [], idMappings: ID_MAPPINGS })
  if (plan.root.kind !== 'overlay') throw new Error('no overlay')
  const root = { ...plan.root, options: ['berth.chown'] }
  for (let i = 0; i < 2; i++) {
    const ran = place.run({
      ...only(...NEW, 'user'),
      idMappings: ID_MAPPINGS,
      root,
      ...probe('stat', '/bin/setuid', '/etc/from-layer'),
    })
    assert.is(ran.err, '')
    assert.match(ran.out, /^\/bin\/setuid file 4755 0:0/m)
    assert.match(ran.out, /^\/etc\/from-layer file 0644 0:0/m)
    assert.is(statSync(place.path('upper/bin/setuid')).uid, MAPPED)
  }
  place.reset()
})

test('nothing is left behind', async () => {
  place.remove()
  await clean()
})

test.run()
