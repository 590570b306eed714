import { spawnSync } from 'node:child_process'
import { closeSync, existsSync, openSync, readdirSync, readlinkSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  applyDeviceRules,
  cgroupHost,
  createGroup,
  DEFAULT_DEVICE_RULES,
  removeGroup,
} from '../../src/cgroup/index.ts'
import { binding } from '../../src/kernel/binding.ts'
import type { DeviceRule } from '../../src/spec/runtime.ts'
import { needs } from '../lib/needs.ts'

needs('root', 'cgroup2')

const host = cgroupHost()
const PARENT = `/berth-test-${process.pid}`

test.after(() => removeGroup(join(host.root, PARENT)))

const DENY_ALL: DeviceRule = { allow: false, access: 'rwm' }

/** What a shell in the group can do: a word for each act that works. */
function acts(directory: string): string[] {
  const node = join(tmpdir(), `berth-node-${process.pid}`)
  const script = `
    echo $$ > "$1/cgroup.procs" || exit 1
    test -c /dev/null || exit 1
    ( : < /dev/null ) 2>&- && echo read-null
    ( : > /dev/null ) 2>&- && echo write-null
    ( : <> /dev/null ) 2>&- && echo both-null
    ( : < /dev/zero ) 2>&- && echo read-zero
    mknod "$2" c 1 3 2>&- && echo make-null
    exit 0`
  const result = spawnSync('/bin/sh', ['-c', script, 'sh', directory, node], { encoding: 'utf8' })
  rmSync(node, { force: true })
  assert.is(result.status, 0, result.stderr)
  return result.stdout.split('\n').filter((word) => word !== '')
}

const ALL = ['read-null', 'write-null', 'both-null', 'read-zero', 'make-null']

const TABLE: [string, DeviceRule[], string[]][] = [
  ['no rule', [], []],
  ['allow all', [{ allow: true }], ALL],
  ['berth’s default rules', [...DEFAULT_DEVICE_RULES], ALL],
  [
    'reading null only',
    [DENY_ALL, { allow: true, type: 'c', major: 1, minor: 3, access: 'r' }],
    ['read-null'],
  ],
  [
    'reading and writing by two rules',
    [
      DENY_ALL,
      { allow: true, type: 'c', major: 1, access: 'r' },
      { allow: true, type: 'c', major: 1, minor: 3, access: 'w' },
    ],
    ['read-null', 'write-null', 'both-null', 'read-zero'],
  ],
  [
    'all but writing null',
    [{ allow: true }, { allow: false, type: 'c', major: 1, minor: 3, access: 'w' }],
    ['read-null', 'read-zero', 'make-null'],
  ],
  ['another kind of device', [DENY_ALL, { allow: true, type: 'b' }], []],
]

for (const [name, devices, expected] of TABLE) {
  test(`the kernel decides as the rules say: ${name}`, async () => {
    const group = await createGroup(host, { parent: PARENT, name: 'd', resources: { devices } })
    try {
      assert.equal(acts(group.directory), expected)
    } finally {
      await removeGroup(group.directory)
    }
  })
}

test('changed rules replace the old ones, and exactly one program is attached', async () => {
  const { directory } = await createGroup(host, { parent: PARENT, name: 'u', resources: {} })
  const attached = (): number => {
    const cgroup = openSync(directory, 'r')
    const fds = binding.bpfQueryDevice(cgroup)
    for (const fd of [...fds, cgroup]) closeSync(fd)
    return fds.length
  }
  try {
    assert.is(attached(), 0)
    assert.equal(acts(directory), ALL)
    applyDeviceRules(directory, [DENY_ALL])
    assert.is(attached(), 1)
    assert.equal(acts(directory), [])
    applyDeviceRules(directory, [DENY_ALL, { allow: true, type: 'c', major: 1, minor: 5 }])
    assert.is(attached(), 1)
    assert.equal(acts(directory), ['read-zero'])
    applyDeviceRules(directory, [{ allow: true }])
    assert.is(attached(), 0)
    assert.equal(acts(directory), ALL)
  } finally {
    await removeGroup(directory)
  }
})

test('the verifier takes a long list of rules', async () => {
  const devices = Array.from({ length: 1024 }, (_, i) => ({
    allow: i % 3 !== 0,
    type: i % 2 ? 'c' : 'b',
    major: i,
    minor: 0xffffffff - i,
    access: 'rw',
  }))
  const group = await createGroup(host, { parent: PARENT, name: 'long', resources: { devices } })
  assert.equal(acts(group.directory), [])
  await removeGroup(group.directory)
})

test('a program that is none is refused in the verifier’s words', () => {
  assert.throws(() => binding.bpfLoadDevice(Buffer.alloc(8)), /BPF_PROG_LOAD.*: \S/s)
  assert.throws(() => binding.bpfLoadDevice(Buffer.alloc(7)), TypeError)
})

test('a process that makes many groups keeps few programs open', async () => {
  const programs = (): number =>
    readdirSync('/proc/self/fd').filter((fd) => {
      const link = join('/proc/self/fd', fd)
      return existsSync(link) && readlinkSync(link) === 'anon_inode:bpf-prog'
    }).length
  for (let major = 1; major <= 40; major++) {
    const devices = [DENY_ALL, { allow: true, type: 'c', major, access: 'r' } as const]
    const { directory } = await createGroup(host, {
      parent: PARENT,
      name: `many-${major}`,
      resources: { devices },
    })
    await removeGroup(directory)
    assert.ok(programs() <= 16, `${programs()} programs are open`)
  }
})

test.run()
