/** Id ranges, events and the derived state: what the engine reads from and writes to its roots. */
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { nowNs } from '../../../src/base/clock.ts'
import { emit, engineEvents, keepDeath } from '../../../src/engine/events.ts'
import { releaseAbandonedRanges, releaseRanges, userMappings } from '../../../src/engine/idmap.ts'
import { type Engine, openEngine } from '../../../src/engine/open.ts'
import {
  bootId,
  containerStatus,
  UNKNOWN_EXIT,
  writeLostExit,
  writeRunMark,
} from '../../../src/engine/status.ts'
import type { ContainerRecord, EngineEvent } from '../../../src/engine/types.ts'

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
  name: 'n',
  image: 'i',
  volumes: [],
  labels: {},
} as unknown as ContainerRecord
const withContainer = (): Engine => {
  const engine = fresh()
  mkdirSync(engine.at.container(ID))
  writeFileSync(engine.at.record(ID), JSON.stringify(record))
  return engine
}

test('no --userns and host are no namespace', () => {
  const engine = fresh()
  for (const given of [undefined, '', 'host']) assert.is(userMappings(engine, given, ID), undefined)
})

test('UID:GID:SIZE is that map', () => {
  assert.equal(userMappings(fresh(), '100:200:30', ID), {
    uidMappings: [{ containerID: 0, hostID: 100, size: 30 }],
    gidMappings: [{ containerID: 0, hostID: 200, size: 30 }],
  })
})

for (const bad of [
  'x',
  '1:2',
  '1:2:3:4',
  '1:2:0',
  '-1:0:1',
  '4294967294:0:2',
  '0:4294967294:2',
  '1:2:99999999999',
  ' 1:2:3',
]) {
  test(`--userns "${bad}" is refused`, () =>
    assert.throws(() => userMappings(fresh(), bad, ID), /--userns/))
}

test('auto ranges never overlap, and come back', () => {
  const engine = fresh()
  const first = (id: string) => userMappings(engine, 'auto', id)?.uidMappings[0]?.hostID ?? 0
  mkdirSync(engine.at.container(ID))
  const one = first(ID)
  const two = first('cd'.repeat(32))
  assert.ok(Math.abs(one - two) >= 65536)
  releaseRanges(engine, ID)
  assert.is(first(ID), one)
  releaseAbandonedRanges(engine)
  assert.is(first('ef'.repeat(32)), two)
})

test('a container without a mark was never started', () => {
  const status = containerStatus(withContainer(), record)
  assert.equal([status.state, status.exitCode, status.pid], ['created', 0, 0])
})

test('an exit record is the end', () => {
  const engine = withContainer()
  writeRunMark(engine, ID, '/cgroup')
  writeFileSync(
    engine.at.exit(ID),
    JSON.stringify({
      id: ID,
      code: 137,
      signal: 9,
      oomKilled: true,
      createdNs: '1',
      startedNs: '2',
      finishedNs: '3',
      error: '',
      restarts: 4,
    }),
  )
  const status = containerStatus(engine, record)
  assert.equal(
    [status.state, status.exitCode, status.oomKilled, status.finishedNs, status.restarts],
    ['stopped', 137, true, '3', 4],
  )
})

test('a mark without monitor and record is a container that was lost, with the reason', () => {
  const engine = withContainer()
  writeRunMark(engine, ID, '/cgroup')
  const killed = containerStatus(engine, record)
  assert.equal([killed.state, killed.exitCode], ['stopped', UNKNOWN_EXIT])
  assert.match(killed.error, /monitor was killed/)
  writeFileSync(
    join(engine.at.container(ID), 'run.json'),
    JSON.stringify({ bootId: 'another', cgroup: '' }),
  )
  assert.match(containerStatus(engine, record).error, /machine was restarted/)
  writeLostExit(engine, ID)
  assert.is(JSON.parse(readFileSync(engine.at.exit(ID), 'utf8')).code, UNKNOWN_EXIT)
})

test('a status file without a living monitor counts for nothing', () => {
  const engine = withContainer()
  mkdirSync(engine.at.live(ID), { recursive: true })
  writeFileSync(join(engine.at.live(ID), 'alive'), '')
  writeFileSync(
    join(engine.at.live(ID), 'status.json'),
    JSON.stringify({
      protocol: 1,
      monitor: 1,
      containers: { [ID]: { pid: 1, state: 'running', startedNs: '1', restarts: 0 } },
    }),
  )
  assert.is(containerStatus(engine, record).state, 'created')
})

test('a new start takes the exit record of the one before away', () => {
  const engine = withContainer()
  writeFileSync(engine.at.exit(ID), '{}')
  writeRunMark(engine, ID, '/cgroup')
  assert.throws(() => readFileSync(engine.at.exit(ID)), /ENOENT/)
  assert.is(bootId(), bootId())
})

const event = (action: string) =>
  ({ type: 'container', action, id: ID, name: 'n', attributes: {} }) as const
const past = async (engine: Engine, sinceNs = '0'): Promise<EngineEvent[]> => {
  const found: EngineEvent[] = []
  const signal = new AbortController().signal
  for await (const each of engineEvents(engine, { sinceNs, follow: false, signal }))
    found.push(each)
  return found
}

test('events come in the order of their times, with the deaths that records tell of', async () => {
  const engine = withContainer()
  emit(engine, event('start'))
  const between = (BigInt(Date.now()) * 1_000_000n + 60_000_000_000n).toString()
  writeFileSync(
    engine.at.exit(ID),
    JSON.stringify({ id: ID, code: 3, oomKilled: true, finishedNs: between }),
  )
  assert.equal(
    (await past(engine)).map(({ action }) => action),
    ['start', 'oom', 'die'],
  )
  assert.is((await past(engine)).at(-1)?.attributes['exitCode'], '3')
  assert.equal(
    (await past(engine, between)).map(({ action }) => action),
    ['oom', 'die'],
  )
})

/** The actions that somebody is told of who follows from the beginning until `last`; `act` is called with each. */
async function follow(engine: Engine, last: string, act: (action: string) => void) {
  const abort = new AbortController()
  const found: string[] = []
  const options = { sinceNs: '0', follow: true, signal: abort.signal }
  for await (const { action } of engineEvents(engine, options)) {
    found.push(action)
    act(action)
    if (action === last) abort.abort()
  }
  return found
}

test('who follows is told of what comes, and ends when asked to', async () => {
  const engine = withContainer()
  const followed = follow(engine, 'second', (action) => {
    if (action === 'first') emit(engine, event('second'))
  })
  emit(engine, event('first'))
  assert.equal(await followed, ['first', 'second'])
})

const deathOf = (engine: Engine): void => {
  const exit = { id: ID, code: 3, oomKilled: true, finishedNs: String(nowNs() + 1_000_000_000n) }
  writeFileSync(engine.at.exit(ID), JSON.stringify(exit))
}

test('a death is told once by its record and once by the events, and to who follows only once', async () => {
  const engine = withContainer()
  deathOf(engine)
  const found = await follow(engine, 'destroy', (action) => {
    if (action !== 'die') return
    // As a removal that is killed half way, and again.
    keepDeath(engine, record)
    keepDeath(engine, record)
    rmSync(engine.at.exit(ID))
    keepDeath(engine, record)
    emit(engine, event('destroy'))
  })
  assert.equal(found, ['oom', 'die', 'destroy'])
  assert.equal((await past(engine)).map(({ action }) => action).sort(), ['destroy', 'die', 'oom'])
})

test('a death is told by the events where its record goes before the exit is read', async () => {
  const engine = withContainer()
  rmSync(engine.at.record(ID))
  deathOf(engine)
  emit(engine, event('first'))
  const found = await follow(engine, 'die', (action) => {
    if (action === 'first') setTimeout(() => keepDeath(engine, record), 100)
  })
  assert.equal(found, ['first', 'oom', 'die'])
})

test('a full events file becomes the old one, and both are read', async () => {
  const engine = withContainer()
  emit(engine, event('old'))
  appendFileSync(
    engine.at.events,
    `${JSON.stringify({ timeNs: '1', ...event('x'.repeat(9 * 1024 * 1024)) })}\n`,
  )
  emit(engine, event('new'))
  assert.equal(
    (await past(engine)).map(({ action }) => action.slice(0, 3)),
    ['xxx', 'old', 'new'],
  )
})

test('an event that cannot be written is a warning', () => {
  const warnings: string[] = []
  const engine = { ...withContainer(), warn: (message: string) => warnings.push(message) }
  mkdirSync(engine.at.events)
  emit(engine, event('start'))
  assert.match(warnings.join(), /cannot record the event "start"/)
})

test.after(() => rmSync(directory, { recursive: true, force: true }))

test.run()
