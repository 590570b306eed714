import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { Fault } from '../../../src/base/fault.ts'
import { type AuthConfig, requestCredentials } from '../../../src/pod/image-auth.ts'
import { pinnedBy } from '../../../src/pod/image-pins.ts'
import { newCounters, PullProgress } from '../../../src/pod/image-progress.ts'
import { splitUser } from '../../../src/pod/image-view.ts'

function refused(work: () => unknown, reason: RegExp): void {
  try {
    work()
  } catch (error) {
    assert.is((error as Fault).code, 'INVALID_ARGUMENT')
    assert.match((error as Fault).message, reason)
    return
  }
  assert.unreachable('it was accepted')
}

const base64 = (text: string): string => Buffer.from(text).toString('base64')
const quay = { domain: 'quay.io', path: 'team/app' }
const basic = (username: string, password: string) => ({ kind: 'basic', username, password })

const logins: { name: string; given: AuthConfig; expect: unknown }[] = [
  { name: 'nothing', given: {}, expect: undefined },
  { name: 'empty fields', given: { username: '', auth: '', registryToken: '' }, expect: undefined },
  { name: 'a pair', given: { username: 'u', password: 'p' }, expect: basic('u', 'p') },
  {
    name: 'a pair before auth',
    given: { username: 'u', auth: base64('a:b') },
    expect: basic('u', ''),
  },
  { name: 'auth', given: { auth: base64('u:p:q') }, expect: basic('u', 'p:q') },
  {
    name: 'auth with NUL bytes at its end',
    given: { auth: base64('u:p\0\0') },
    expect: basic('u', 'p'),
  },
  {
    name: 'an identity token before auth',
    given: { identityToken: 'i', auth: base64('a:b') },
    expect: { kind: 'identity', token: 'i' },
  },
  {
    name: 'a registry token',
    given: { registryToken: 'r' },
    expect: { kind: 'registry', token: 'r' },
  },
]

for (const { name, given, expect } of logins) {
  test(`a request's login: ${name}`, () => assert.equal(requestCredentials(given, quay), expect))
}

test('a login for another server is not shown to this one', () => {
  const given = { username: 'u', password: 'p' }
  const at = (serverAddress: string, reference = quay) =>
    requestCredentials({ ...given, serverAddress }, reference) !== undefined
  for (const address of ['quay.io', 'https://quay.io', 'QUAY.io/v2/', 'quay.io/team']) {
    assert.ok(at(address), address)
  }
  for (const address of ['evil.io', 'quay.io.evil.io', 'quay.io/other', 'quay.io:5000']) {
    assert.not.ok(at(address), address)
  }
  const hub = { domain: 'docker.io', path: 'library/nginx' }
  assert.ok(at('https://index.docker.io/v1/', hub))
})

test('a login that is broken is refused, and its secret is not repeated', () => {
  const secrets: AuthConfig[] = [
    { auth: 'c2VjcmV0' },
    { auth: 's e c r e t' },
    { registryToken: 'secret\r\nX: y' },
    { identityToken: 'secret token' },
    { username: 'a:b', password: 'secret' },
    { username: 'a', password: 'secret\n' },
    { username: 'u', password: 'secret'.repeat(20_000) },
  ]
  for (const given of secrets) {
    refused(() => requestCredentials(given, quay), /^(?!.*(?:secret|c2Vj)).*login is not usable/)
  }
})

test('pinned images: names in full and short, patterns with stars, nothing else', () => {
  const nginx = ['docker.io/library/nginx:latest']
  const pause = ['registry.k8s.io/pause:3.10']
  const cases: [pattern: string, names: string[], expect: boolean][] = [
    ['nginx', nginx, true],
    ['docker.io/library/nginx:latest', nginx, true],
    ['nginx:1', nginx, false],
    ['registry.k8s.io/pause', pause, false],
    ['registry.k8s.io/pause*', pause, true],
    ['*pause*', pause, true],
    ['*/pause:3.1?', pause, false],
    ['registry.*:3.10', pause, true],
    ['registry.*/pause:3.10*0', pause, false],
    ['*', pause, true],
    ['*', [], false],
  ]
  for (const [pattern, names, expect] of cases) {
    assert.is(pinnedBy([pattern])(names), expect, pattern)
  }
  assert.is(pinnedBy([])(pause), false)
  refused(() => pinnedBy(['']), /1 to 640/)
  refused(() => pinnedBy(['Not A Name']), /not an image name/)
})

test('a pattern made of stars is matched in time', () => {
  const start = performance.now()
  const name = `q.io/${'a'.repeat(600)}`
  assert.not.ok(pinnedBy(['*a'.repeat(300).concat('*b')])([name]))
  assert.ok(performance.now() - start < 1000)
})

test("an image's user becomes a uid or a name, never both", () => {
  const cases: [user: string, uid: number | undefined, username: string][] = [
    ['', undefined, ''],
    ['0', 0, ''],
    ['1000', 1000, ''],
    ['1000:50', 1000, ''],
    ['4294967294', 4294967294, ''],
    ['www-data', undefined, 'www-data'],
    ['www-data:adm', undefined, 'www-data'],
    ['1000x', undefined, '1000x'],
  ]
  for (const [user, uid, username] of cases) assert.equal(splitUser(user), { uid, username }, user)
})

test('a user number out of range is an error and no name', () => {
  for (const user of ['4294967295', '-1', '99999999999999999999:0', '4294967296:1']) {
    refused(() => splitUser(user), /out of the range/)
  }
  refused(() => splitUser('u'.repeat(300)), /longer than 256/)
})

test('what was there before a download is not counted as fetched', () => {
  const counters = newCounters()
  const progress = new PullProgress(counters)
  const report = (phase: 'waiting' | 'downloading' | 'done', done: number) =>
    progress.report({ id: 'a', phase, done, total: 100 })
  report('waiting', 0)
  report('downloading', 40)
  report('downloading', 70)
  report('downloading', 70)
  assert.is(progress.events, 3)
  report('downloading', 100)
  report('done', 100)
  assert.is(counters.fetchedBytes, 60)
  assert.equal(progress.sum(), { doneBytes: 100, totalBytes: 100 })
})

test.run()
