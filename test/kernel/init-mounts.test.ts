import { chmodSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ATTRIBUTE, bind, fresh, ID_MAPPINGS, MOUNTS, NEW, Place, probe } from '../lib/inside.ts'
import { needs } from '../lib/needs.ts'
import { traces } from '../lib/traces.ts'

needs('root', 'overlay')

const place = new Place()
const clean = traces({ roots: [place.directory] })
const USER = {
  namespaces: [...NEW, 'user' as const].map((type) => ({ type })),
  idMappings: ID_MAPPINGS,
}
const LAYERS = 130

function layers(): string[] {
  const made: string[] = []
  for (let i = 0; i < LAYERS; i++) {
    const directory = place.make(`layers/${String(i).padStart(3, '0')}`)
    writeFileSync(join(directory, `file-${i}`), `${i}\n`)
    writeFileSync(join(directory, 'topmost'), `${i}\n`)
    made.unshift(directory)
  }
  return [...made, place.lower]
}

function overlay(lower: string[], writable = true) {
  place.make('upper')
  const root = { kind: 'overlay' as const, lower, options: [] }
  return writable ? { ...root, upper: place.path('upper'), work: place.make('work') } : root
}

test(`a root of ${LAYERS} layers shows all of them, the topmost first, also under a user namespace`, () => {
  const root = overlay(layers())
  for (const more of [{}, USER]) {
    const ran = place.run({ ...more, root, ...probe('cat', '/file-0', '/file-129', '/topmost') })
    assert.equal(ran, { code: 0, out: '0\n129\n129\n', err: '' })
    place.reset()
  }
})

test('layers whose paths are longer than the mount API takes still mount', () => {
  let deep = place.path('deep')
  while (deep.length < 400) deep = join(deep, 'd'.repeat(100))
  mkdirSync(deep, { recursive: true })
  writeFileSync(join(deep, 'found'), 'yes\n')
  const ran = place.run({ root: overlay([deep, place.lower]), ...probe('cat', '/found') })
  assert.equal(ran, { code: 0, out: 'yes\n', err: '' })
  place.reset()
})

test('writes go to the upper directory and no layer changes', () => {
  assert.is(place.run(probe('write-file', '/etc/from-layer', 'changed')).err, '')
  assert.match(readFileSync(place.path('upper/etc/from-layer'), 'utf8'), /^changed/)
  assert.is(readFileSync(join(place.lower, 'etc/from-layer'), 'utf8'), 'layer\n')
  place.reset()
})

test('a read-only root and a root without an upper directory refuse writes', () => {
  const write = probe('write-file', '/etc/x', 'x')
  assert.match(place.run({ ...write, rootReadonly: true }).err, /EROFS/)
  const mounts = MOUNTS
  const ran = place.run({ ...write, mounts, root: overlay([place.lower], false) })
  assert.match(ran.err, /EROFS/)
})

test('a directory of the host can be the root', () => {
  const root = { kind: 'directory' as const, path: place.lower }
  assert.is(place.run({ ...probe('cat', '/etc/from-layer'), root }).out, 'layer\n')
})

test('a read-only /dev has its mounts, nodes and links, and the program cannot add to it', () => {
  const mounts = [
    fresh('proc', '/proc'),
    fresh('tmpfs', '/dev', { setAttributes: ATTRIBUTE.readonly, options: ['mode=755'] }),
    fresh('devpts', '/dev/pts'),
  ]
  const node = { type: 'c' as const, major: 1, minor: 3, mode: 0o666, uid: 0, gid: 0 }
  const more = {
    mounts,
    devices: [{ ...node, target: '/dev/null' }],
    links: [{ target: '/dev/fd', to: '/proc/self/fd' }],
  }
  const shown = place.run({ ...more, ...probe('cat', '/proc/self/mountinfo', '/dev/null') })
  assert.match(shown.out, / \/dev ro,[\s\S]* \/dev\/pts rw,/)
  assert.is(shown.err, '')
  assert.match(place.run({ ...more, ...probe('write-file', '/dev/x', 'x') }).err, /EROFS/)
  place.reset()
})

test('the host mount table does not show a mount of a running container', async () => {
  const before = readFileSync('/proc/self/mountinfo', 'utf8')
  const running = await place.start(probe('trap'))
  assert.is(readFileSync('/proc/self/mountinfo', 'utf8'), before)
  const inside = readFileSync(`/proc/${running.pid}/mountinfo`, 'utf8')
  await running.end()
  assert.not.match(inside, / \/work /, 'nothing of the host is left inside')
  assert.is(inside.split('\n')[0]?.split(' ')[4], '/')
  place.reset()
})

test('bind mounts: directories, single files, read-only, missing targets, missing optional sources', () => {
  const directory = place.make('volume')
  writeFileSync(join(directory, 'file'), 'shared\n')
  const mounts = [
    ...MOUNTS,
    bind(directory, '/data/deep'),
    bind(join(directory, 'file'), '/etc/single'),
    bind(directory, '/ro', {
      setAttributesRecursive: ATTRIBUTE.readonly,
      setAttributes: ATTRIBUTE.noexec,
    }),
    bind(place.path('missing'), '/optional', { optional: true }),
  ]
  for (const more of [{}, USER]) {
    const cat = place.run({ ...more, mounts, ...probe('cat', '/data/deep/file', '/etc/single') })
    assert.equal(cat, { code: 0, out: 'shared\nshared\n', err: '' })
    const write = place.run({ ...more, mounts, ...probe('write-file', '/ro/file', 'x') })
    assert.match(write.err, /EROFS/)
    assert.match(place.run({ ...more, mounts, ...probe('stat', '/optional') }).err, /ENOENT/)
    place.reset()
  }
  const required = place.run({
    ...probe('true'),
    mounts: [...MOUNTS, bind(place.path('missing'), '/x')],
  })
  assert.is(required.code, 125)
  assert.match(required.err, /^mount: source .*missing of the mount at \/x: No such file/)
})

test('the whole root of the host can be mounted, without the container in it; also read-only, and a part of it beside', () => {
  const directory = place.make('of-the-host')
  const mark = join(directory, 'mark')
  writeFileSync(mark, 'host\n')
  const { readonly } = ATTRIBUTE
  const mounts = [
    ...MOUNTS,
    bind('/', '/all'),
    bind('/', '/flat', { recursive: false, setAttributes: readonly }),
    bind(directory, '/part', { setAttributesRecursive: readonly }),
  ]
  const ran = place.run({ mounts, ...probe('cat', `/all${mark}`, '/part/mark') })
  assert.equal(ran, { code: 0, out: 'host\nhost\n', err: '' })
  // The test's directory may be on a mount of its own; this is not.
  const users = place.run({ mounts, ...probe('cat', '/flat/etc/passwd') })
  assert.equal(users, { code: 0, out: readFileSync('/etc/passwd', 'utf8'), err: '' })
  for (const at of ['/flat', '/part']) {
    assert.match(place.run({ mounts, ...probe('write-file', `${at}/new`, 'x') }).err, /EROFS/)
  }
  // That is the container's own.
  assert.match(place.run({ mounts, ...probe('stat', '/all/etc/from-layer') }).err, /ENOENT/)
  place.reset()
})

test('a directory over a file, and a file over a directory, are refused with both their kinds', () => {
  const file = place.path('one-file')
  writeFileSync(file, 'x')
  const mount = (source: string, target: string) =>
    place.run({ ...probe('true'), mounts: [...MOUNTS, bind(file, '/there'), bind(source, target)] })
      .err
  const directory = mount(place.make('one-directory'), '/there')
  assert.match(directory, /cannot mount .*, a directory, at \/there, a file: Not a directory/)
  assert.match(
    mount(file, '/dev'),
    /cannot mount .*, a file, at \/dev, a directory: Not a directory/,
  )
  place.reset()
})

test('a tmpfs holds what the image had there when it is asked to, with owners and links', () => {
  writeFileSync(join(place.lower, 'etc/keep'), 'kept\n')
  symlinkSync('keep', join(place.lower, 'etc/link'))
  const mounts = [
    ...MOUNTS,
    fresh('tmpfs', '/etc', { copyUp: true, options: ['size=1m'], setAttributes: ATTRIBUTE.nosuid }),
  ]
  const ran = place.run({ ...probe('cat', '/etc/link'), mounts })
  assert.equal(ran, { code: 0, out: 'kept\n', err: '' })
  assert.is(place.run({ ...probe('write-file', '/etc/keep', 'x'), mounts }).err, '')
  assert.is(readFileSync(join(place.lower, 'etc/keep'), 'utf8'), 'kept\n')
})

test('a tmpfs without a mode has that of the directory that it covers, where there is one', () => {
  place.make('lower/closed')
  chmodSync(join(place.lower, 'closed'), 0o710)
  for (const [target, options, mode] of [
    ['/closed', [], '0710'],
    ['/closed', ['size=1m'], '0710'],
    ['/closed', ['mode=0444'], '0444'],
    ['/made', [], '1777'],
  ] as const) {
    for (const more of [{}, USER]) {
      const mounts = [
        ...MOUNTS,
        fresh('tmpfs', target, { options: [...options], setAttributes: ATTRIBUTE.readonly }),
      ]
      const ran = place.run({ ...more, ...probe('stat', target), mounts })
      assert.match(ran.out, new RegExp(`\\b${mode}\\b`), `${target} ${options}: ${ran.err}`)
      place.reset()
    }
  }
})

test('a remount changes the attributes of what is there', () => {
  const mounts = [
    ...MOUNTS,
    fresh('tmpfs', '/tmp'),
    { ...fresh('', '/tmp'), kind: 'remount' as const, setAttributes: ATTRIBUTE.readonly },
  ]
  assert.match(place.run({ ...probe('write-file', '/tmp/x', 'x'), mounts }).err, /EROFS/)
})

test('a file system that the kernel does not know is refused unless it is optional', () => {
  const given = (optional: boolean) => ({
    ...probe('true'),
    mounts: [...MOUNTS, fresh('nosuchfs', '/x', { optional })],
  })
  assert.is(place.run(given(true)).code, 0)
  assert.match(place.run(given(false)).err, /^mount: cannot make a nosuchfs for \/x/)
})

test('masked files are empty, masked directories are empty and read-only, read-only paths refuse writes', () => {
  const hidden = {
    maskedPaths: ['/proc/kcore', '/etc', '/proc/acpi', '/sys/firmware', '/not/there'],
    readonlyPaths: ['/proc/sys', '/proc/not-there'],
  }
  for (const more of [{}, USER]) {
    assert.equal(place.run({ ...more, ...hidden, ...probe('cat', '/proc/kcore') }).out, '')
    assert.equal(place.run({ ...more, ...hidden, ...probe('ls', '/etc') }).out, '')
    assert.match(
      place.run({ ...more, ...hidden, ...probe('write-file', '/etc/x', 'x') }).err,
      /EROFS/,
    )
    const sysctl = probe('write-file', '/proc/sys/kernel/hostname', 'x')
    assert.match(place.run({ ...more, ...hidden, ...sysctl }).err, /EROFS/)
    place.reset()
  }
})

test('sysfs is shown under a user namespace also with the network namespace of the host', () => {
  const namespaces = USER.namespaces.filter((ns) => ns.type !== 'network')
  const ran = place.run({
    ...USER,
    namespaces,
    loopback: false,
    ...probe('ls', '/sys/class/net'),
  })
  assert.match(ran.out, /\blo\b/, ran.err)
  const write = probe('write-file', '/sys/kernel/x', 'x')
  assert.match(place.run({ ...USER, namespaces, loopback: false, ...write }).err, /EROFS/)
  place.reset()
})

test('mounts of a container do not reach the host, those of a slave bind reach the container', () => {
  const volume = place.make('propagation')
  const MS_SLAVE = 0x80000
  const MS_REC = 0x4000
  const mounts = [...MOUNTS, bind(volume, '/mnt', { propagation: MS_SLAVE | MS_REC })]
  const ran = place.run({ ...probe('mount', 'tmpfs', '/mnt', 'tmpfs'), mounts })
  assert.is(ran.err, '')
  assert.not(existsSync(join(volume, 'x')))
})

test('nothing is left behind', async () => {
  place.remove()
  await clean()
})

test.run()
