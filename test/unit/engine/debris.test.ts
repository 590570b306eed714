/** What killed commands leave, and how much of it a command of now may take away. */
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { createContainer } from '../../../src/engine/create.ts'
import { emit, engineEvents } from '../../../src/engine/events.ts'
import { type Engine, openEngine } from '../../../src/engine/open.ts'
import type { RunOptions } from '../../../src/engine/options.ts'
import { readRecord } from '../../../src/engine/record.ts'
import { removeDebris } from '../../../src/engine/recover.ts'
import { removeContainer } from '../../../src/engine/remove.ts'
import type { ContainerRecord } from '../../../src/engine/types.ts'
import { updateContainer } from '../../../src/engine/update.ts'
import { createVolume, holdVolumes, removeVolume } from '../../../src/engine/volume.ts'

const directory = mkdtempSync(join(tmpdir(), 'berth-unit-'))
let count = 0
const fresh = (): Engine => {
  const at = join(directory, String(++count))
  return openEngine({ root: join(at, 'root'), state: join(at, 'state'), warn: () => {} })
}
const ID = 'ab'.repeat(32)
const record = {
  version: 1,
  id: ID,
  name: 'new',
  image: 'i',
  volumes: [],
  labels: {},
} as unknown as ContainerRecord
const withContainer = (text = JSON.stringify(record)): Engine => {
  const engine = fresh()
  mkdirSync(engine.at.container(ID))
  writeFileSync(engine.at.record(ID), text)
  symlinkSync(ID, engine.at.name('new'))
  return engine
}

test('the old name of a rename that was killed goes, the name of the record stays', async () => {
  const engine = withContainer()
  symlinkSync(ID, engine.at.name('old'))
  assert.equal(await removeDebris(engine), [])
  assert.equal(readdirSync(engine.at.names), ['new'])
})

test('a container without record goes with its name and its range of ids', async () => {
  const engine = fresh()
  mkdirSync(engine.at.container(ID))
  symlinkSync(ID, engine.at.name('half'))
  mkdirSync(engine.at.idRanges)
  symlinkSync(ID, join(engine.at.idRanges, '0'))
  assert.equal(await removeDebris(engine), [ID])
  assert.equal(readdirSync(engine.at.names), [])
  assert.equal(readdirSync(engine.at.idRanges), [])
  assert.not(existsSync(engine.at.container(ID)))
})

for (const text of ['', '{"id', '[]', '{"id":"other"}']) {
  test(`the damaged record ${JSON.stringify(text)} names the way out, and that works`, async () => {
    const engine = withContainer(text)
    assert.throws(() => readRecord(engine, ID), /berth rm -f abababababab/)
    await removeContainer(engine, ID, { force: true, volumes: false })
    assert.not(existsSync(engine.at.container(ID)))
    assert.equal(readdirSync(engine.at.names), [])
  })
}

test('a line of the events that a full disk has cut costs that line and the next', async () => {
  const engine = fresh()
  const event = { type: 'volume', id: 'v', name: 'v', attributes: {} } as const
  emit(engine, { ...event, action: 'create' })
  appendFileSync(engine.at.events, '{"timeNs":"1","ty')
  emit(engine, { ...event, action: 'lost' })
  emit(engine, { ...event, action: 'destroy' })
  const told: string[] = []
  const signal = new AbortController().signal
  for await (const { action } of engineEvents(engine, { sinceNs: '0', follow: false, signal })) {
    told.push(action)
  }
  assert.equal(told, ['create', 'destroy'])
})

test('a volume is not removed while a create is on its way to its record', async () => {
  const engine = fresh()
  await createVolume(engine, { name: 'v', labels: {} })
  const hold = await holdVolumes(engine)
  let removed = false
  const removal = removeVolume(engine, 'v', { force: false }).then(() => {
    removed = true
  })
  // Others may be made and found meanwhile.
  await createVolume(engine, { name: 'w', labels: {} })
  assert.not(removed)
  assert.ok(existsSync(join(engine.at.volumes, 'v')))
  hold.release()
  await removal
  assert.equal(readdirSync(engine.at.volumes), ['w'])
})

for (const name of ['memory', 'memorySwap', 'memoryReservation', 'cpuQuota'] as const) {
  test(`an update of ${name} to 0 is refused, since it would change nothing`, async () => {
    const option = name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
    try {
      await updateContainer(withContainer(), ID, { [name]: 0 })
      assert.unreachable()
    } catch (error) {
      assert.match(String(error), `--${option} 0`)
    }
  })
}

const PLAIN = {
  image: 'i',
  remove: false,
  restart: { policy: 'no', maximumRetries: 0 },
  logDriver: 'cri',
  mounts: [],
  ports: [],
} as unknown as RunOptions
const REFUSED: [claim: string, options: Partial<RunOptions>, message: RegExp][] = [
  [
    'idmap without a user namespace',
    { mounts: [{ target: '/t', idmap: true }] as RunOptions['mounts'] },
    /mount at \/t asks for idmap/,
  ],
  ['--shm-size with the host’s IPC', { ipc: 'host', shmSize: 1 }, /--shm-size/],
  ['--shm-size without /dev/shm', { ipc: 'none', shmSize: 1 }, /--shm-size/],
  ['--hostname in another’s UTS namespace', { uts: 'container:x', hostname: 'h' }, /--hostname/],
  ['--domainname in the host’s UTS namespace', { uts: 'host', domainname: 'h' }, /--domainname/],
]
for (const [claim, options, message] of REFUSED) {
  test(`refused before anything is made: ${claim}`, async () => {
    const engine = fresh()
    try {
      await createContainer(engine, { ...PLAIN, ...options })
      assert.unreachable()
    } catch (error) {
      assert.match(String(error), message)
    }
    assert.equal(readdirSync(engine.at.containers), [])
  })
}

test.after(() => rmSync(directory, { recursive: true, force: true }))

test.run()
