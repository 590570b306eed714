import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Fault } from '../../../src/base/fault.ts'
import {
  cgroupDriver,
  type DriverName,
  type GroupPlace,
  groupPlace,
  sliceOf,
  slicePath,
} from '../../../src/cgroup/driver.ts'
import { checkPath } from '../../../src/cgroup/path.ts'
import { restoreValue } from '../../../src/cgroup/write.ts'

const PLACES: [DriverName, string, GroupPlace][] = [
  ['cgroupfs', '', { driver: 'cgroupfs', parent: '/berth', name: 'id1' }],
  ['cgroupfs', 'a/b', { driver: 'cgroupfs', parent: '/berth/a', name: 'b' }],
  ['cgroupfs', '//kube//pod1/./c:1', { driver: 'cgroupfs', parent: '/kube/pod1', name: 'c:1' }],
  [
    'systemd',
    '',
    {
      driver: 'systemd',
      slice: 'system.slice',
      parent: '/system.slice',
      unit: 'berth-id1.scope',
    },
  ],
  [
    'systemd',
    'kubepods-burstable-pod1.slice:cri:abc',
    {
      driver: 'systemd',
      slice: 'kubepods-burstable-pod1.slice',
      parent: '/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice',
      unit: 'cri-abc.scope',
    },
  ],
]

for (const [driver, cgroupsPath, expected] of PLACES) {
  test(`${driver} takes "${cgroupsPath}"`, () => {
    assert.equal(groupPlace(driver, cgroupsPath, 'id1'), expected)
  })
}

const isInvalid = (error: unknown): boolean =>
  error instanceof Fault && error.code === 'INVALID_ARGUMENT'

for (const [driver, cgroupsPath] of [
  ['cgroupfs', '/'],
  ['cgroupfs', '/a/../b'],
  ['cgroupfs', '../b'],
  ['cgroupfs', '/a/cgroup.procs'],
  ['cgroupfs', '/a\nb'],
  ['cgroupfs', `/${'a'.repeat(256)}`],
  ['cgroupfs', `/${'a/'.repeat(2000)}`],
  ['cgroupfs', 'system.slice:a:b'],
  ['systemd', '/a/b'],
  ['systemd', 'a:b'],
  ['systemd', 'a.slice:b:'],
  ['systemd', 'a.slice:b:c:d'],
  ['systemd', '../a.slice:b:c'],
  ['systemd', 'a--b.slice:b:c'],
] as const) {
  test(`${driver} refuses "${cgroupsPath.slice(0, 40)}"`, () => {
    assert.throws(() => groupPlace(driver, cgroupsPath, 'id1'), isInvalid)
  })
}

const POD = '/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1_2.slice'
for (const [given, path] of [
  [POD, POD],
  ['kubepods-besteffort-pod1_2.slice', POD],
  ['/system.slice', '/system.slice'],
  ['a@b:c.d.slice', '/a@b:c.d.slice'],
  ['-.slice', '/'],
] as const) {
  test(`the slice of "${given}" is at ${path}`, () => {
    assert.equal(sliceOf(given), { slice: given.split('/').at(-1), path })
  })
}

for (const path of [
  '',
  '/',
  '.slice',
  'a',
  'a.slice/',
  'a.slice/b.slice',
  '/a-b.slice',
  '/b.slice/a.slice',
  '/../a.slice',
  `${POD}/`,
  `${POD}/../x.slice`,
  '/kubepods.slice/kubepods-besteffort.slice/../kubepods-burstable.slice',
  'a-.slice',
  '-a.slice',
  'a--b.slice',
  'a b.slice',
  'a\n.slice',
  'a\0.slice',
  'a\\x2d.slice',
  `${'a'.repeat(250)}.slice`,
]) {
  test(`"${path.slice(0, 60)}" is no slice, or not there`, () => {
    assert.throws(() => sliceOf(path), isInvalid)
  })
}

test('the root slice is the root', () => assert.is(slicePath('-.slice'), '/'))

test('the systemd driver is refused by name', () => {
  assert.throws(
    () => cgroupDriver('systemd'),
    (error: unknown) => error instanceof Fault && error.code === 'UNIMPLEMENTED',
  )
  assert.is(cgroupDriver('cgroupfs').name, 'cgroupfs')
})

test('a path is absolute', () => assert.throws(() => checkPath('a'), isInvalid))

const IO_MAX = '8:0 rbps=1 wbps=max riops=max wiops=max\n8:16 rbps=2 wbps=max riops=max wiops=9\n'
for (const [now, written, expected] of [
  ['max\n', '100', 'max'],
  ['max 100000\n', '5000 10000', 'max 100000'],
  ['\n', '0-1', ''],
  [IO_MAX, '8:16 rbps=7', '8:16 rbps=2 wbps=max riops=max wiops=9'],
  [IO_MAX, '8:32 rbps=7', '8:32 rbps=max'],
  ['default 100\n8:0 50\n', '8:16 200', '8:16 default'],
  ['default 100\n8:0 50\n', 'default 7', 'default 100'],
  [
    'mlx4_0 hca_handle=max hca_object=3\n',
    'mlx4_0 hca_handle=2',
    'mlx4_0 hca_handle=max hca_object=3',
  ],
] as const) {
  test(`"${written}" is undone by "${expected}"`, () => {
    assert.is(restoreValue(now, written), expected)
  })
}

test.run()
