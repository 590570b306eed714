/** A command that was killed after its monitor had made the network, before it had made the container. */
import { mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { isMonitorAlive, startMonitor } from '../../src/container/monitor.ts'
import { berthOfFile } from '../lib/berth.ts'
import { needs } from '../lib/needs.ts'

needs('root', 'overlay', 'cgroup2')

const { berth, nothingIsLeft } = berthOfFile()

for (const [name, command] of [
  ['start', ['start']],
  ['rm', ['rm']],
  ['prune', ['system', 'prune', '-f']],
] as const) {
  test(`the monitor that it left is ended by ${name}`, async () => {
    const id = await berth.ok(['create', '--net', 'none', '--name', name, 'hello', 'true'])
    const live = join(berth.state, 'containers', id)
    mkdirSync(live, { recursive: true, mode: 0o700 })
    const monitor = await startMonitor({ directory: live })
    await monitor.holdNamespaces({ namespaces: [{ type: 'network' }], sysctls: [], loopback: true })
    monitor.close()
    assert.ok(isMonitorAlive(live))
    await berth.ok([...command, ...(name === 'prune' ? [] : [name])])
    if (name === 'start') await berth.ok(['wait', name])
    if (name !== 'rm') await berth.run(['rm', name])
    assert.not(isMonitorAlive(live))
    assert.equal(readdirSync(join(berth.state, 'containers')), [])
  })
}

test('nothing is left behind', nothingIsLeft)

test.run()
