import { mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { containerDevices } from '../../../src/pod/devices.ts'
import { containerConfig, refused } from './config.ts'

const directory = mkdtempSync(join(tmpdir(), 'berth-pod-'))
const device = (hostPath: string, permissions = 'rw', containerPath = '/dev/mine') => ({
  hostPath,
  containerPath,
  permissions,
})
const PLAIN = { privileged: false, allOfHost: true }
const devices = (...given: ReturnType<typeof device>[]) =>
  containerDevices(containerConfig({ devices: given }), PLAIN)

test('nothing asked: no devices, and rules that begin with none', () => {
  const { devices: list, rules } = devices()
  assert.equal(list, [])
  assert.equal(rules[0], { allow: false, access: 'rwm' })
})

test('a device has the host’s number and its own place', () => {
  const { devices: list, rules } = devices(device('/dev/null', 'r'))
  assert.equal(
    list.map(({ path, type, major, minor }) => [path, type, major, minor]),
    [['/dev/mine', 'c', 1, 3]],
  )
  assert.equal(rules.at(-1), { allow: true, type: 'c', major: 1, minor: 3, access: 'r' })
})

test('a link leads to a device', () => {
  const link = join(directory, 'link')
  symlinkSync('/dev/zero', link)
  assert.equal(devices(device(link)).devices[0]?.minor, 5)
})

test('privileged may use all devices, and has nodes of those of the host but where it is configured otherwise', () => {
  for (const allOfHost of [true, false]) {
    const { rules, devices } = containerDevices(containerConfig(), { privileged: true, allOfHost })
    assert.equal(rules, [{ allow: true, access: 'rwm' }])
    assert.is(devices.length > 0, allOfHost)
  }
})

test('what is no device, or asked for wrongly, is refused', () => {
  const invalid = (act: () => unknown, message: RegExp) => refused(act, 'INVALID_ARGUMENT', message)
  invalid(() => devices(device('/etc/passwd')), /^devices: \/etc\/passwd is no device/)
  invalid(() => devices(device('dev/null')), /devices\[0\]\.host_path/)
  invalid(() => devices(device('/dev/null', 'rw', 'mine')), /devices\[0\]\.container_path/)
  invalid(() => devices(device('/dev/nu\0ll')), /devices\[0\]\.host_path: holds a NUL/)
  for (const permissions of ['', 'x', 'rr', 'rwmr', 'rw ']) {
    invalid(() => devices(device('/dev/null', permissions)), /devices\[0\]\.permissions/)
  }
  refused(() => devices(device(join(directory, 'none'))), 'NOT_FOUND', /^devices: no device/)
})

test('CDI devices are refused by name', () => {
  const named = containerConfig({ CDIDevices: [{ name: 'vendor.com/gpu=0' }] })
  refused(() => containerDevices(named, PLAIN), 'UNIMPLEMENTED', /^CDI_devices.*vendor\.com\/gpu=0/)
  const noted = containerConfig({ annotations: { 'cdi.k8s.io/x': 'vendor.com/gpu=0' } })
  refused(() => containerDevices(noted, PLAIN), 'UNIMPLEMENTED', /annotations\["cdi\.k8s\.io\/x"\]/)
})

test.after(() => rmSync(directory, { recursive: true }))
test.run()
