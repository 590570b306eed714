import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { mountOf } from '../../../src/pod/mount-source.ts'
import { containerMounts, type MountInput, statusMounts } from '../../../src/pod/mounts.ts'
import type { Mount as CriMount } from '../../../src/spec/cri.ts'
import type { Mount } from '../../../src/spec/runtime.ts'
import { MAPPINGS, mount, never, refused } from './config.ts'

const directory = realpathSync(mkdtempSync(join(tmpdir(), 'berth-pod-')))
const path = (...parts: string[]) => join(directory, ...parts)
mkdirSync(path('source'))

const SHARED = `10 1 0:1 / / rw shared:1 - ext4 /dev/a rw
11 10 0:2 / ${directory} rw shared:2 - tmpfs t rw
`
const PRIVATE = SHARED.replaceAll(/ shared:\d/g, '')
const SLAVE = SHARED.replaceAll('shared:', 'master:')

function input(mounts: Partial<CriMount>[], change: Partial<MountInput> = {}): MountInput {
  return {
    config: { mounts: mounts.map((m) => mount({ hostPath: path('source'), ...m })) },
    privileged: false,
    readonlyRootfs: false,
    namespaces: { network: 'pod', sharedMemory: 'pod' },
    mappings: undefined,
    files: {
      '/etc/hosts': '/pod/hosts',
      '/etc/hostname': '/pod/hostname',
      '/etc/resolv.conf': '/pod/resolv',
    },
    images: [],
    volumes: [],
    mountinfo: SHARED,
    selinux: false,
    warn: never,
    ...change,
  }
}
const make = (mounts: Partial<CriMount>[], change?: Partial<MountInput>) =>
  containerMounts(input(mounts, change))
const targets = (mounts: Partial<CriMount>[], change?: Partial<MountInput>) =>
  make(mounts, change).mounts.map(({ destination }) => destination)
const at = (target: string, mounts: Partial<CriMount>[], change?: Partial<MountInput>): Mount => {
  const found = make(mounts, change).mounts.find(({ destination }) => destination === target)
  assert.ok(found, `no mount at ${target}`)
  return found as Mount
}

const STANDARD = ['/proc', '/dev', '/dev/pts', '/sys', '/sys/fs/cgroup', '/dev/mqueue', '/dev/shm']
const FILES = ['/etc/hosts', '/etc/hostname', '/etc/resolv.conf']

test('without a wish: the standard ones and the pod’s files', () =>
  assert.equal(targets([]), [...STANDARD, ...FILES]))

test('the client’s mounts come outer before inner, in its order where equally deep', () =>
  assert.equal(
    targets(
      [
        { containerPath: '/a/b/c' },
        { containerPath: '/z' },
        { containerPath: '/etc' },
        { containerPath: '/a' },
      ],
      { volumes: [{ target: '/z/v', path: '/v' }] },
    ),
    [...STANDARD, '/z', '/etc', '/a', ...FILES, '/z/v', '/a/b/c'],
  ))

test('a mount of the client’s takes a place of ours', () => {
  const etc = at('/etc/hosts', [{ containerPath: '/etc/hosts/' }])
  assert.is(etc.source, path('source'))
  assert.is(at('/dev/shm', [{ containerPath: '/dev/shm' }]).type, 'bind')
  assert.equal(targets([{ containerPath: '/dev' }]), [
    '/proc',
    '/sys',
    '/sys/fs/cgroup',
    '/dev',
    ...FILES,
  ])
})

test('the pod’s files are writable where the root is', () => {
  assert.equal(at('/etc/hosts', []).options, ['rbind', 'rprivate'])
  assert.equal(at('/etc/hosts', [], { readonlyRootfs: true }).options, ['rbind', 'rprivate', 'ro'])
})

test('the host’s ipc comes with its shared memory', () => {
  const namespaces = { network: 'pod', sharedMemory: 'node' } as const
  assert.is(at('/dev/shm', [], { namespaces }).source, '/dev/shm')
  assert.is(at('/dev/shm', []).type, 'tmpfs')
})

test('a privileged container may write to /sys', () => {
  assert.ok(at('/sys', [], { privileged: true }).options?.includes('rw'))
  assert.ok(at('/sys', []).options?.includes('ro'))
})

test('with a user namespace and the host’s network /sys is the host’s, read-only to its depth', () => {
  const namespaces = { network: 'node', sharedMemory: 'pod' } as const
  const sys = at('/sys', [], { namespaces, mappings: MAPPINGS })
  assert.equal([sys.type, sys.source, sys.options?.includes('rro')], ['bind', '/sys', true])
  assert.is(at('/sys', [], { namespaces }).type, 'sysfs')
})

const OPTIONS: [claim: string, change: Partial<CriMount>, options: string[]][] = [
  ['writable', {}, ['rbind', 'rprivate']],
  ['read-only', { readonly: true }, ['rbind', 'rprivate', 'ro']],
  [
    'read-only to its depth',
    { readonly: true, recursiveReadOnly: true },
    ['rbind', 'rprivate', 'rro'],
  ],
  ['following the host', { propagation: 'PROPAGATION_HOST_TO_CONTAINER' }, ['rbind', 'rslave']],
  ['both ways', { propagation: 'PROPAGATION_BIDIRECTIONAL' }, ['rbind', 'rshared']],
  [
    'options',
    { mountOptions: ['noexec', 'nosuid', 'nodev'] },
    ['rbind', 'rprivate', 'noexec', 'nosuid', 'nodev'],
  ],
]
for (const [claim, change, options] of OPTIONS) {
  test(`a mount: ${claim}`, () => assert.equal(at('/data', [change]).options, options))
}

test('the root follows what its mounts need', () => {
  assert.is(make([{}]).rootfsPropagation, undefined)
  const slave = { propagation: 'PROPAGATION_HOST_TO_CONTAINER' } as const
  const both = { propagation: 'PROPAGATION_BIDIRECTIONAL' } as const
  assert.is(make([slave]).rootfsPropagation, 'rslave')
  assert.is(make([both, slave]).rootfsPropagation, 'rshared')
})

test('propagation needs a mount of the host that propagates', () => {
  const slave = { propagation: 'PROPAGATION_HOST_TO_CONTAINER' } as const
  const both = { propagation: 'PROPAGATION_BIDIRECTIONAL' } as const
  assert.equal(at('/data', [slave], { mountinfo: SLAVE }).options, ['rbind', 'rslave'])
  for (const [change, mountinfo, what] of [
    [slave, PRIVATE, 'shared or slave'],
    [both, PRIVATE, 'shared'],
    [both, SLAVE, 'shared'],
  ] as const) {
    refused(
      () => make([change], { mountinfo }),
      'FAILED_PRECONDITION',
      new RegExp(`^mounts\\[0\\]\\.propagation: .*${directory}, which is not ${what}$`),
    )
  }
})

test('the mount of a path is the nearest, the last of a stack, with blanks in its name', () => {
  const info = `1 0 0:1 / / rw - x x rw
2 1 0:1 / /a rw shared:1 - x x rw
3 1 0:1 / /a/b\\040c rw master:1 propagate_from:2 - x tank\\040x rw
4 1 0:1 / /a rw - x /dev/sda1 rw
`
  assert.equal(mountOf('/a/b c/d', info), {
    point: '/a/b c',
    shared: false,
    slave: true,
    source: 'tank x',
  })
  assert.equal(mountOf('/a/b', info), {
    point: '/a',
    shared: false,
    slave: false,
    source: '/dev/sda1',
  })
  assert.is(mountOf('/ab', info)?.point, '/')
  assert.is(mountOf('/x', ''), undefined)
})

test('a link of the host is followed, and what is missing is made as a directory', () => {
  symlinkSync('source', path('link'))
  assert.is(at('/data', [{ hostPath: path('link') }]).source, path('source'))
  assert.is(at('/data', [{ hostPath: path('new/deep') }]).source, path('new/deep'))
  assert.is(statSync(path('new/deep')).mode & 0o7777, 0o755 & ~process.umask())
  writeFileSync(path('file'), '')
  assert.is(at('/data', [{ hostPath: path('file') }]).source, path('file'))
})

test('a source that leads nowhere is refused', () => {
  symlinkSync('loop', path('loop'))
  symlinkSync('gone', path('dangling'))
  for (const name of ['loop', 'dangling', 'file/below']) {
    refused(
      () => make([{ hostPath: path(name) }]),
      'FAILED_PRECONDITION',
      /^mounts\[0\]\.host_path: .* cannot be mounted/,
    )
  }
})

const REFUSED: [claim: string, change: Partial<CriMount>, message: RegExp][] = [
  ['no target', { containerPath: '' }, /mounts\[0\]\.container_path/],
  ['a relative target', { containerPath: 'a' }, /mounts\[0\]\.container_path: "a"/],
  ['a target at the root', { containerPath: '/a/..' }, /container_path: a mount at \//],
  ['a NUL in a target', { containerPath: '/a\0' }, /container_path: holds a NUL/],
  ['no source', { hostPath: '' }, /mounts\[0\]\.host_path: ""/],
  ['a relative source', { hostPath: 'a' }, /mounts\[0\]\.host_path: "a"/],
  ['a NUL in a source', { hostPath: '/a\0' }, /host_path: holds a NUL/],
  ['a long source', { hostPath: `/${'a'.repeat(4096)}` }, /host_path: is longer/],
  [
    'recursively read-only and writable',
    { recursiveReadOnly: true },
    /^RROUnsupported: mounts\[0\]\.recursive_read_only: needs readonly/,
  ],
  [
    'recursively read-only and following',
    { recursiveReadOnly: true, readonly: true, propagation: 'PROPAGATION_HOST_TO_CONTAINER' },
    /^RROUnsupported: .*PROPAGATION_PRIVATE/,
  ],
  [
    'uids without gids',
    { uidMappings: [{ hostId: 1, containerId: 0, length: 1 }] },
    /mounts\[0\]: uidMappings and gidMappings/,
  ],
]
for (const [claim, change, message] of REFUSED) {
  test(`refused: ${claim}`, () => refused(() => make([change]), 'INVALID_ARGUMENT', message))
}

test('options that give rights, and unknown modes, are refused by name', () => {
  for (const option of ['exec', 'rw', 'suid', 'bind', 'data=x', '']) {
    refused(() => make([{ mountOptions: [option] }]), 'UNIMPLEMENTED', /mounts\[0\]\.mount_options/)
  }
  const propagation = 5 as never
  refused(() => make([{ propagation }]), 'UNIMPLEMENTED', /mounts\[0\]\.propagation/)
})

test('nothing is made on the host for a container that is refused', () => {
  refused(
    () => make([{ hostPath: path('never') }, { containerPath: 'bad' }]),
    'INVALID_ARGUMENT',
    /mounts\[1\]/,
  )
  assert.not(existsSync(path('never')))
})

const ids = (hostId: number) => ({
  uidMappings: [{ hostId, containerId: 0, length: 65536 }],
  gidMappings: [{ hostId, containerId: 0, length: 65536 }],
})
test('ids of a mount: the pod’s go by its user namespace, others by one of their own', () => {
  const pods = at('/data', [ids(65536)], { mappings: MAPPINGS })
  assert.equal(pods.options, ['rbind', 'rprivate', 'ridmap'])
  assert.is(pods.uidMappings, undefined)
  const other = at('/data', [ids(0)], { mappings: MAPPINGS })
  assert.equal(other.options, ['rbind', 'rprivate'])
  assert.equal(other.gidMappings, [{ containerID: 0, hostID: 0, size: 65536 }])
})

test('labels are asked for where the kernel has none: nothing', () => {
  make([{ selinuxRelabel: true }])
  const warnings: string[] = []
  make([{ selinuxRelabel: true }], { selinux: true, warn: (message) => warnings.push(message) })
  assert.match(warnings.join(), /selinux_relabel has no effect/)
})

const spec = {
  image: 'sha256:1',
  annotations: {},
  userSpecifiedImage: 'i',
  runtimeHandler: '',
  imageRef: '',
}
const image: Partial<CriMount> = { image: spec, hostPath: '', readonly: true }
const two = { images: [{ index: 0, lower: [path('layer'), path('layer2')] }] }

test("a volume's sub-path beside an image volume, which the kubelet has resolved already", () => {
  assert.equal(at('/data', [{ imageSubPath: 'a' }]), at('/data', [{}]))
})

test('an image is an overlay of its layers, read-only', () => {
  const layers = [`lowerdir+=${path('layer')}`, `lowerdir+=${path('layer2')}`]
  assert.equal(at('/data', [{ ...image, mountOptions: ['noexec'] }], two), {
    destination: '/data',
    type: 'overlay',
    source: 'overlay',
    options: [...layers, 'ro', 'noexec'],
  })
  assert.equal(at('/data', [{ ...image, imageSubPath: 'a/b' }], two).options, [
    ...layers,
    'berth.path=/a/b',
    'ro',
  ])
})

test('a path that leads out of an image is refused', () => {
  for (const imageSubPath of ['/sub', '../layer2', 'sub/../..', 'a\0']) {
    refused(
      () => make([{ ...image, imageSubPath }], two),
      'INVALID_ARGUMENT',
      /mounts\[0\]\.image_sub_path/,
    )
  }
})

const BAD_IMAGES: [claim: string, change: Partial<CriMount>, message: RegExp][] = [
  ['writable', { readonly: false }, /mounts\[0\]\.readonly/],
  ['with a source', { hostPath: '/tmp' }, /mounts\[0\]\.host_path: excludes image/],
  ['that propagates', { propagation: 'PROPAGATION_BIDIRECTIONAL' }, /mounts\[0\]\.propagation/],
]
for (const [claim, change, message] of BAD_IMAGES) {
  test(`refused: an image ${claim}`, () =>
    refused(() => make([{ ...image, ...change }], two), 'INVALID_ARGUMENT', message))
}
test('refused: an image that was not prepared', () =>
  refused(() => make([image]), 'INVALID_ARGUMENT', /mounts\[0\]\.image: has no layers/))

test('a volume of the image has its directory, with the pod’s ids', () => {
  const volumes = [{ target: '/v', path: '/volumes/1' }]
  assert.equal(at('/v', [], { volumes }).source, '/volumes/1')
  assert.ok(at('/v', [], { volumes, mappings: MAPPINGS }).options?.includes('ridmap'))
})

test('ContainerStatus gives mounts back as they came, images with their id', () => {
  const plain = mount({ selinuxRelabel: true, hostPath: '/x' })
  const withImage = mount(image)
  const [first, second] = statusMounts([plain, withImage], [{ index: 1, imageId: 'sha256:id' }])
  assert.is(first, plain)
  assert.equal(second?.image, { ...spec, image: 'sha256:id', imageRef: 'sha256:id' })
  assert.equal({ ...second, image: spec }, withImage)
})

test.after(() => rmSync(directory, { recursive: true }))
test.run()
