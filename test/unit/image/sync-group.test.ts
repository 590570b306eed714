import { setImmediate as turn } from 'node:timers/promises'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { SyncGroup } from '../../../src/image/sync-group.ts'

/** Longer than any claim takes: who waits for it never goes on. */
const NEVER_MS = 2 ** 30

/** What has gone on so far, by name. */
function watch(): { done: string[]; ready: (name: string, member: Ready) => void } {
  const done: string[] = []
  return { done, ready: (name, member) => void member.ready().then(() => done.push(name)) }
}
type Ready = { ready(): Promise<void> }

async function turns(): Promise<void> {
  for (let i = 0; i < 5; i++) await turn()
}

test('who is ready waits until all are that have joined, and then all go on at once', async () => {
  const group = new SyncGroup(NEVER_MS)
  const { done, ready } = watch()
  const [a, b, c] = [group.join(), group.join(), group.join()]
  ready('a', a)
  await turns()
  ready('b', b)
  await turns()
  assert.equal(done, [])
  ready('c', c)
  await turns()
  assert.equal(done, ['a', 'b', 'c'])
})

test('one alone waits for nobody', async () => {
  await new SyncGroup(NEVER_MS).join().ready()
})

test('one that begins when another makes way is waited for', async () => {
  const group = new SyncGroup(NEVER_MS)
  const { done, ready } = watch()
  ready('a', group.join())
  const late = await Promise.resolve().then(() => group.join())
  await turns()
  assert.equal(done, [])
  late[Symbol.dispose]()
  await turns()
  assert.equal(done, ['a'])
})

test('nobody waits for who has failed, has left, or is on the way to the disk', async () => {
  const group = new SyncGroup(NEVER_MS)
  const { done, ready } = watch()
  const [a, failed, left] = [group.join(), group.join(), group.join()]
  ready('a', a)
  failed[Symbol.dispose]()
  failed[Symbol.dispose]()
  left.leave()
  await turns()
  assert.equal(done, ['a'])
  // The ends of those that have gone on count no more.
  for (const each of [a, left]) each[Symbol.dispose]()
  const [b, c] = [group.join(), group.join()]
  ready('b', b)
  await turns()
  assert.equal(done, ['a'])
  ready('c', c)
  await turns()
  assert.equal(done, ['a', 'b', 'c'])
})

test('nobody waits for who waits for a lock; who has got it is waited for', async () => {
  const group = new SyncGroup(NEVER_MS)
  const { done, ready } = watch()
  const [a, b, c] = [group.join(), group.join(), group.join()]
  let unlock: (value: string) => void = () => undefined
  const locked = b.aside(
    new Promise<string>((resolve) => {
      unlock = resolve
    }),
  )
  ready('a', a)
  c.leave()
  await turns()
  assert.equal(done, ['a'])
  unlock('lock')
  assert.is(await locked, 'lock')
  ready('d', group.join())
  await turns()
  assert.equal(done, ['a'])
  ready('b', b)
  await turns()
  assert.equal(done, ['a', 'd', 'b'])
})

test('a lock that is free makes nobody go on', async () => {
  const group = new SyncGroup(NEVER_MS)
  const { done, ready } = watch()
  const [a, b] = [group.join(), group.join()]
  ready('a', a)
  await b.aside(Promise.resolve())
  await turns()
  assert.equal(done, [])
  const refused = b.aside(Promise.reject(new Error('no lock')))
  assert.is(await refused.catch((error: Error) => error.message), 'no lock')
  await turns()
  assert.equal(done, [])
  b[Symbol.dispose]()
  await turns()
  assert.equal(done, ['a'])
})

test('after some time those go on that are ready, and later ones have a time of their own', async () => {
  const group = new SyncGroup(1)
  const slow = group.join()
  await group.join().ready()
  await Promise.all([group.join().ready(), group.join().ready()])
  slow.leave()
})

test.run()
