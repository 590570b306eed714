/** linux.netDevices: interfaces of the host, here a network namespace that plays it, become the container's. */
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { needs } from '../lib/needs.ts'
import { enterNetworkNamespace } from '../lib/network-namespace.ts'
import { ociOfFile } from '../lib/oci.ts'

needs('root', 'cgroup2', 'program:busybox', 'program:ip', 'program:unshare')
enterNetworkNamespace(import.meta.url)

const { oci, nothingIsLeft } = ociOfFile()
const ip = (...args: string[]): string => execFileSync('ip', args, { encoding: 'utf8' })

ip(
  'link',
  'add',
  'given',
  'address',
  '02:00:00:00:00:07',
  'mtu',
  '1321',
  'type',
  'veth',
  'peer',
  'name',
  'other',
)
for (const address of ['192.0.2.5/24', '198.51.100.9/32', '2001:db8::5/64']) {
  ip('address', 'add', address, 'dev', 'given')
}
ip('link', 'set', 'given', 'up')

const refused = async (name: string, netDevices: object, message: RegExp): Promise<void> => {
  oci.bundle(name, 'true', (spec) => Object.assign(spec.linux, { netDevices }))
  await oci.refused(['run', '--bundle', join(oci.directory, name), name], message)
  assert.not.ok(existsSync(join(oci.root, name)))
  assert.not.ok(existsSync(oci.cgroup(name)))
}

test('what cannot be moved is refused, leaves nothing, and the host keeps the interface as it was', async () => {
  await refused('unknown', { nosuch: {} }, /nosuch.*: this host has no such interface/)
  await refused(
    'clash',
    { given: { name: 'lo' } },
    /netDevices.*given.*: the container has an interface lo already/,
  )
  for (const [i, name] of ['a/b', '..', 'eth%d', 'sixteen-letters-x'].entries()) {
    await refused(
      `name${i}`,
      { given: { name } },
      /linux\.netDevices.*is no name of a network interface/,
    )
  }
  await refused('twice', { given: { name: 'x' }, other: { name: 'x' } }, /two have the same name/)
  oci.bundle('host', 'true', (spec) => {
    Object.assign(spec.linux, {
      netDevices: { given: {} },
      namespaces: [{ type: 'mount' }, { type: 'pid' }],
    })
  })
  await oci.refused(
    ['run', '--bundle', join(oci.directory, 'host'), 'host'],
    /need a network namespace/,
  )
  assert.match(ip('link', 'show', 'given'), /[<,]UP[,>]/)
})

test('an interface comes up in the container under its new name, with its addresses of both families', async () => {
  const bundle = oci.bundle('moved', 'ip address show eth7; ip route', (spec) => {
    Object.assign(spec.linux, { netDevices: { given: { name: 'eth7' } } })
    // Its name is known to a hook already.
    spec.hooks = {
      createRuntime: [
        {
          path: '/bin/sh',
          args: ['sh', '-c', '! ip link show given'],
          env: ['PATH=/usr/sbin:/sbin:/usr/bin:/bin'],
        },
      ],
    }
  })
  const seen = await oci.ok(['run', '--bundle', bundle, 'moved'])
  for (const part of [
    /mtu 1321/,
    /[<,]UP[,>]/,
    /02:00:00:00:00:07/,
    /inet 192\.0\.2\.5\/24/,
    /inet 198\.51\.100\.9\/32/,
    /inet6 2001:db8::5\/64/,
  ]) {
    assert.match(seen, part)
  }
})

test('nothing is left behind', nothingIsLeft)

test.run()
