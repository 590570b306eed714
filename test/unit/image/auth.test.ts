import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { type Credentials, findCredentials, parseChallenges } from '../../../src/image/auth.ts'

const challenges: [header: string, expected: [scheme: string, parameters: object][]][] = [
  ['Basic realm="x"', [['basic', { realm: 'x' }]]],
  ['basic', [['basic', {}]]],
  [
    'Bearer realm="https://a/t",service="s, t",scope="repository:a/b:pull,push"',
    [['bearer', { realm: 'https://a/t', service: 's, t', scope: 'repository:a/b:pull,push' }]],
  ],
  [
    'Negotiate, Basic realm=x, Bearer realm="y"',
    [
      ['basic', { realm: 'x' }],
      ['bearer', { realm: 'y' }],
    ],
  ],
  ['Bearer realm="a\\"b"', [['bearer', { realm: 'a"b' }]]],
  ['Bearer realm="unended', [['bearer', { realm: 'unended' }]]],
  ['Digest realm="x", nonce="y"', []],
  ['Bearer __proto__="x",realm="y"', [['bearer', { realm: 'y' }]]],
  ['', []],
  ['=====', []],
]
for (const [header, expected] of challenges) {
  test(`the challenge ${JSON.stringify(header)}`, () => {
    const got = parseChallenges(header)
    assert.equal(
      got.map(({ scheme }) => scheme),
      expected.map(([scheme]) => scheme),
    )
    for (const [i, [, parameters]] of expected.entries()) {
      for (const [key, value] of Object.entries(parameters)) {
        assert.is(got[i]?.parameters[key], value)
      }
    }
  })
}

function login(text: string): string {
  return Buffer.from(text).toString('base64')
}

const FILE = {
  auths: {
    'https://index.docker.io/v1/': { auth: login('hub:h') },
    'q.io': { auth: login('q:pass:word') },
    'q.io/team': { auth: login('team:t') },
    'q.io/team/app': { identitytoken: 'token' },
    'plain.io': { username: 'u', password: 'p' },
    'empty.io': {},
    'broken.io': { auth: login('nocolon') },
  },
}

const logins: [domain: string, path: string, expected: Credentials | undefined][] = [
  ['docker.io', 'library/x', { kind: 'basic', username: 'hub', password: 'h' }],
  ['q.io', 'other', { kind: 'basic', username: 'q', password: 'pass:word' }],
  ['q.io', 'team/x', { kind: 'basic', username: 'team', password: 't' }],
  ['q.io', 'teams', { kind: 'basic', username: 'q', password: 'pass:word' }],
  ['q.io', 'team/app', { kind: 'identity', token: 'token' }],
  ['plain.io', 'x', { kind: 'basic', username: 'u', password: 'p' }],
  ['empty.io', 'x', undefined],
  ['q.io:5000', 'x', undefined],
  ['__proto__', 'x', undefined],
]
const directory = mkdtempSync(join(tmpdir(), 'berth-auth-'))
const file = join(directory, 'config.json')
writeFileSync(file, JSON.stringify(FILE))
for (const [domain, path, expected] of logins) {
  test(`the login for ${domain}/${path} is ${expected?.kind ?? 'none'}`, async () => {
    assert.equal(await findCredentials(domain, path, [join(directory, 'none'), file]), expected)
  })
}

test('a login that cannot be read is refused with the file named', async () => {
  try {
    await findCredentials('broken.io', 'x', [file])
    assert.unreachable()
  } catch (error) {
    assert.match(String(error), /config\.json holds no valid login for broken\.io/)
  }
})

test('a credential helper is asked for the server, and may know nothing', async () => {
  const helper = join(directory, 'docker-credential-test')
  writeFileSync(
    helper,
    '#!/bin/sh\nread server\n[ "$server" = h.io ] || { echo "credentials not found in native keychain"; exit 1; }\necho \'{"Username":"<token>","Secret":"s"}\'\n',
  )
  chmodSync(helper, 0o755)
  const helped = join(directory, 'helped.json')
  writeFileSync(helped, JSON.stringify({ credHelpers: { 'h.io': 'test' }, credsStore: 'test' }))
  const before = process.env['PATH']
  process.env['PATH'] = `${directory}:${before}`
  try {
    assert.equal(await findCredentials('h.io', 'x', [helped]), { kind: 'identity', token: 's' })
    assert.is(await findCredentials('other.io', 'x', [helped]), undefined)
  } finally {
    process.env['PATH'] = before
  }
})

test('a credential helper with a path in its name is refused', async () => {
  const evil = join(directory, 'evil.json')
  writeFileSync(evil, JSON.stringify({ credsStore: '../../tmp/x' }))
  try {
    await findCredentials('h.io', 'x', [evil])
    assert.unreachable()
  } catch (error) {
    assert.match(String(error), /no credential helper's name/)
  }
})

test.after(() => rmSync(directory, { recursive: true, force: true }))
test.run()
