/** Locks of containers that are removed while others wait for them. */
import { readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { createContainer } from '../../src/engine/create.ts'
import { pruneEngine } from '../../src/engine/prune.ts'
import { removeContainer } from '../../src/engine/remove.ts'
import { startContainer } from '../../src/engine/start.ts'
import { stopContainer } from '../../src/engine/stop.ts'
import { berthOfFile } from '../lib/berth.ts'
import { engineOf, optionsOf } from '../lib/engine.ts'
import { needs } from '../lib/needs.ts'

needs('root', 'overlay', 'cgroup2')

const { berth, nothingIsLeft } = berthOfFile()
const engine = engineOf(berth)

test('who waited for a container that was removed leaves no lock of it', async () => {
  for (let i = 0; i < 5; i++) {
    const { id } = await createContainer(engine, optionsOf('--net', 'none', 'hello', 'sleep'))
    const removed = removeContainer(engine, id, { force: true, volumes: true })
    const late = [stopContainer(engine, id, { timeoutS: 0 }), startContainer(engine, id)]
    await removed
    for (const { status } of await Promise.allSettled(late)) assert.is(status, 'rejected')
    const locks = readdirSync(join(berth.state, 'locks')).filter((name) => name !== 'volumes')
    assert.equal(locks, [])
  }
})

test('the lock of a command that was killed while it waited goes with a prune', async () => {
  writeFileSync(join(berth.state, 'locks', 'f'.repeat(64)), '')
  await pruneEngine(engine, { containers: true, images: false, allImages: false, volumes: false })
  assert.equal(readdirSync(join(berth.state, 'locks')), ['volumes'])
})

test('nothing is left behind', nothingIsLeft)

test.run()
