/** What berth-oci's mounts are to the kernel, as mountinfo shows them inside, and what arrives in them later. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { needs } from '../lib/needs.ts'
import { ociOfFile, type Patch } from '../lib/oci.ts'

needs('root', 'cgroup2', 'program:busybox', 'program:mount')

const { oci, nothingIsLeft } = ociOfFile()

const mount = (...words: string[]): void => void execFileSync('mount', words)

interface Seen {
  readonly options: string
  /** `shared:N`, `master:N`. */
  readonly propagation: string
}

/** The mounts of a container by their places. */
function seen(mountinfo: string): Map<string, Seen> {
  return new Map(
    mountinfo.split('\n').map((line) => {
      const [, , , , place = '', options = '', ...rest] = line.split(' ')
      return [place, { options, propagation: rest.slice(0, rest.indexOf('-')).join(' ') }]
    }),
  )
}

const look = async (id: string): Promise<Map<string, Seen>> =>
  seen(await oci.ok(['exec', id, 'cat', '/proc/self/mountinfo']))

/** A running container whose bundle is a shared mount, as most of a host is. */
async function onShared(id: string, patch: Patch, act: () => Promise<void>): Promise<void> {
  const bundle = join(oci.directory, id)
  mkdirSync(join(bundle, 'shared'), { recursive: true })
  mount('--bind', bundle, bundle)
  mount('--make-shared', bundle)
  try {
    oci.bundle(id, 'exec sleep 1000', patch)
    for (const name of ['rootfs/late', 'rootfs/own', 'shared/late']) mkdirSync(join(bundle, name))
    assert.is((await oci.create(id)).code, 0)
    await oci.ok(['start', id])
    await act()
    await oci.ok(['delete', '--force', id])
  } finally {
    execFileSync('umount', ['--recursive', '--lazy', bundle])
  }
}

for (const [word, isSlave] of [
  ['slave', true],
  ['rslave', true],
  ['private', false],
  [undefined, false],
] as const) {
  const name = word ?? 'without a word'
  test(`rootfsPropagation ${name}: the host's mounts ${isSlave ? 'arrive in the root' : 'stay outside'}, and none goes out`, async () => {
    const id = `root-${word}`
    const patch: Patch = (spec) => {
      if (word !== undefined) Object.assign(spec.linux, { rootfsPropagation: word })
      const sets = ['bounding', 'effective', 'permitted']
      const capabilities = Object.fromEntries(sets.map((set) => [set, ['CAP_SYS_ADMIN']]))
      Object.assign(spec.process, { capabilities })
    }
    await onShared(id, patch, async () => {
      assert.match((await look(id)).get('/')?.propagation ?? '', isSlave ? /^master:\d+$/ : /^$/)
      mount('-t', 'tmpfs', 'late', join(oci.directory, id, 'rootfs/late'))
      await oci.ok(['exec', id, 'mount', '-t', 'tmpfs', 'own', '/own'])
      const inside = await look(id)
      assert.is(inside.has('/late'), isSlave)
      assert.ok(inside.has('/own'))
      assert.is(inside.get('/proc')?.propagation, '', 'what is its own has no master')
      assert.not.match(readFileSync('/proc/self/mountinfo', 'utf8'), /\/own /)
    })
  })
}

for (const [word, arrives] of [
  ['rslave', true],
  ['rshared', true],
  ['rprivate', false],
  [undefined, false],
] as const) {
  test(`a bind mount ${word ?? 'without a word'}: the host's later mounts ${arrives ? 'arrive' : 'stay outside'}`, async () => {
    const id = `bind-${word}`
    const source = join(oci.directory, id, 'shared')
    const options = ['rbind', ...(word === undefined ? [] : [word])]
    const bound = { destination: '/bound', type: 'bind', source, options }
    const patch: Patch = (spec) => Object.assign(spec, { mounts: [...(spec.mounts ?? []), bound] })
    await onShared(id, patch, async () => {
      mount('-t', 'tmpfs', 'late', join(source, 'late'))
      assert.is((await look(id)).has('/bound/late'), arrives)
    })
  })
}

/** Of a tree whose inner mount is noexec, what is beside rw: at its top, inside, and at its top alone where only that is bound. */
const RECURSIVE: [options: string, top: string, inner: string][] = [
  ['rro', 'ro,relatime', 'ro,noexec,relatime'],
  ['ro', 'ro,relatime', 'rw,noexec,relatime'],
  ['ro,rrw', 'rw,relatime', 'rw,noexec,relatime'],
  ['rnoatime', 'rw,noatime', 'rw,noexec,noatime'],
  ['rstrictatime', 'rw', 'rw,noexec'],
  ['rrelatime', 'rw,relatime', 'rw,noexec,relatime'],
  ['rnorelatime', 'rw,relatime', 'rw,noexec,relatime'],
  ['ratime', 'rw,relatime', 'rw,noexec,relatime'],
  ['rnodiratime', 'rw,nodiratime,relatime', 'rw,noexec,nodiratime,relatime'],
  ['rnodiratime,rdiratime', 'rw,relatime', 'rw,noexec,relatime'],
  ['noatime,rstrictatime', 'rw', 'rw,noexec'],
  ['noatime', 'rw,noatime', 'rw,noexec,relatime'],
  ['rro,rnodiratime,rnoatime', 'ro,noatime,nodiratime', 'ro,noexec,noatime,nodiratime'],
  ['rnosuid,rnodev,rexec', 'rw,nosuid,nodev,relatime', 'rw,nosuid,nodev,relatime'],
]

test("a mount's options with an r in front hold for all below it, those without for it alone", async () => {
  const id = 'recursive'
  const bundle = oci.bundle(id, 'cat /proc/self/mountinfo')
  const source = join(bundle, 'tree')
  mkdirSync(source)
  mount('-t', 'tmpfs', 'tree', source)
  try {
    mkdirSync(join(source, 'inner'))
    mount('-t', 'tmpfs', '-o', 'noexec', 'inner', join(source, 'inner'))
    oci.configure(bundle, id, 'cat /proc/self/mountinfo', (spec) => {
      spec.mounts = [
        ...(spec.mounts ?? []),
        ...RECURSIVE.flatMap(([options], i) =>
          ['rbind', 'bind'].map((kind) => ({
            destination: `/${kind}-${i}`,
            type: 'bind',
            source,
            options: [kind, ...options.split(',')],
          })),
        ),
      ]
    })
    const { stdout, stderr } = await oci.run(['run', '--bundle', bundle, id])
    const inside = seen(stdout)
    for (const [i, [options, top, inner]] of RECURSIVE.entries()) {
      assert.is(inside.get(`/rbind-${i}`)?.options, top, `${options} ${stderr}`)
      assert.is(inside.get(`/rbind-${i}/inner`)?.options, inner, options)
      assert.is(inside.get(`/bind-${i}`)?.options, top, options)
      assert.not.ok(inside.has(`/bind-${i}/inner`))
    }
  } finally {
    execFileSync('umount', ['--recursive', source])
  }
})

test('nothing is left behind', nothingIsLeft)
test.run()
