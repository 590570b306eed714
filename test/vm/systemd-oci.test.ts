/** berth-oci with cgroups that systemd makes, and podman on it as it is on a Debian host: real limits, pods of kube play. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { eventually } from '../lib/eventually.ts'
import { needing, needs } from '../lib/needs.ts'
import { ociOfFile } from '../lib/oci.ts'
import { BOX, Podman } from '../lib/podman.ts'

needs('root', 'cgroup:memory', 'file:/run/systemd/system', 'program:busybox')

const { oci, nothingIsLeft } = ociOfFile()
const podman = new Podman({ cgroupManager: 'systemd' })
const PODMAN = [
  'overlay',
  'program:podman',
  'program:conmon',
  'file:/usr/libexec/podman/catatonit',
] as const

test('a container is in a scope of its slice, with its limits, and the scope goes with it', async () => {
  oci.bundle('scoped', 'cat /proc/self/cgroup; exec sleep 1000', (spec) => {
    spec.linux.cgroupsPath = 'machine.slice:test:scoped'
    spec.linux.resources = { memory: { limit: 64 * 1024 * 1024 }, pids: { limit: 50 } }
    spec.linux.namespaces = (spec.linux.namespaces ?? []).filter(({ type }) => type !== 'cgroup')
  })
  const made = await oci.create('scoped', [], ['--systemd-cgroup'])
  assert.is(made.code, 0, made.stderr)
  await oci.ok(['--systemd-cgroup', 'start', 'scoped'])
  const scope = '/sys/fs/cgroup/machine.slice/test-scoped.scope'
  await eventually('it runs', () => oci.output('scoped').includes('\n'))
  assert.is(oci.output('scoped'), '0::/machine.slice/test-scoped.scope/container\n')
  assert.is(readFileSync(join(scope, 'container/memory.max'), 'utf8'), '67108864\n')
  assert.is(readFileSync(join(scope, 'container/pids.max'), 'utf8'), '50\n')
  await oci.ok(['--systemd-cgroup', 'update', '--memory', '32M', 'scoped'])
  assert.is(readFileSync(join(scope, 'container/memory.max'), 'utf8'), '33554432\n')
  assert.is((await oci.run(['exec', 'scoped', 'sh', '-c', 'exit 6'])).code, 6)
  await oci.ok(['--systemd-cgroup', 'delete', '--force', 'scoped'])
  await eventually('systemd has removed the scope', () => !existsSync(scope))
})

test('a limit of 512 KiB starts a container, and one that takes more is killed', async () => {
  oci.bundle('small', 'echo begun', (spec) => {
    spec.linux.resources = { memory: { limit: 512 * 1024 } }
    Object.assign(spec.process, { args: ['/bin/busybox', 'echo', 'begun'] })
  })
  const { code, stdout } = await oci.run(['run', '--bundle', join(oci.directory, 'small'), 'small'])
  assert.equal({ code, stdout }, { code: 0, stdout: 'begun\n' })
  oci.bundle('greedy', 'exec dd if=/dev/zero of=/dev/null bs=64M count=1', (spec) => {
    spec.linux.resources = { memory: { limit: 16 * 1024 * 1024, swap: 16 * 1024 * 1024 } }
  })
  const greedy = await oci.run(['run', '--bundle', join(oci.directory, 'greedy'), 'greedy'])
  assert.is(greedy.code, 137)
})

needing(test, ...PODMAN)(
  'podman with systemd: --memory, --init, and a pod of kube play',
  async () => {
    await podman.prepare()
    const limited = [
      'run',
      '--rm',
      '--memory',
      '40m',
      '--init',
      BOX,
      'sh',
      '-c',
      'cat /sys/fs/cgroup/memory.max; ps',
    ]
    assert.match(await podman.ok(limited), /^41943040\n[\s\S]*podman-init -- sh/)
    const file = join(podman.directory, 'pod.json')
    const one = {
      name: 'one',
      image: 'localhost/box',
      command: ['sh', '-c', 'echo kube; exec sleep 1000'],
    }
    writeFileSync(
      file,
      JSON.stringify({
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name: 'played' },
        spec: { hostNetwork: true, containers: [one] },
      }),
    )
    await podman.ok(['kube', 'play', file])
    assert.is(await podman.ok(['logs', 'played-one']), 'kube')
    assert.is((await podman.run(['exec', 'played-one', 'sh', '-c', 'exit 3'])).code, 3)
    await podman.ok(['kube', 'down', file])
  },
)

test('nothing is left behind', async () => {
  await podman.destroy()
  await nothingIsLeft()
})
test.run()
