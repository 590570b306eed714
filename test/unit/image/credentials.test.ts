import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { Credentials } from '../../../src/image/auth.ts'
import { loginFromHelper } from '../../../src/image/credential-helper.ts'
import { credentialFiles, findCredentials } from '../../../src/image/credentials.ts'

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
    assert.equal(
      await findCredentials(domain, path, { files: [join(directory, 'none'), file] }),
      expected,
    )
  })
}

test('a login that cannot be read is refused with the file named', async () => {
  try {
    await findCredentials('broken.io', 'x', { files: [file] })
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
    assert.equal(await findCredentials('h.io', 'x', { files: [helped] }), {
      kind: 'identity',
      token: 's',
    })
    assert.is(await findCredentials('other.io', 'x', { files: [helped] }), undefined)
  } finally {
    process.env['PATH'] = before
  }
})

test('a credential helper with a path in its name is refused', async () => {
  const evil = join(directory, 'evil.json')
  writeFileSync(evil, JSON.stringify({ credsStore: '../../tmp/x' }))
  try {
    await findCredentials('h.io', 'x', { files: [evil] })
    assert.unreachable()
  } catch (error) {
    assert.match(String(error), /no credential helper's name/)
  }
})

/** A helper that does as the script says, alone in PATH for the claim. */
async function withHelper(script: string, claim: () => Promise<void>): Promise<void> {
  const helper = join(directory, 'docker-credential-own')
  writeFileSync(helper, `#!/bin/sh\n${script}\n`)
  chmodSync(helper, 0o755)
  const before = process.env['PATH']
  process.env['PATH'] = `.:${directory}:${before}`
  try {
    await claim()
  } finally {
    process.env['PATH'] = before
  }
}

const failed = (work: Promise<unknown>): Promise<string> => work.then(() => 'no failure', String)

test('a helper that hangs is killed, though a child of it holds the pipe', () =>
  withHelper('sleep 2 & sleep 2', async () => {
    assert.match(await failed(loginFromHelper('own', 'h.io', 300)), /no answer within 0\.3 s/)
  }))

test('a helper that talks without end is stopped', () =>
  withHelper('exec yes', async () => {
    assert.match(await failed(loginFromHelper('own', 'h.io')), /longer than 65536/)
  }))

test('a helper that fails is named, with its words made harmless', () =>
  withHelper("printf 'no \\033[2Jkey'; exit 3", async () => {
    const text = await failed(loginFromHelper('own', 'h.io'))
    assert.match(
      text,
      /docker-credential-own ended with code 3 when asked for h\.io: no \\x1b\[2Jkey/,
    )
  }))

test('a helper in the working directory is not run', async () => {
  const before = process.env['PATH']
  const folder = process.cwd()
  process.chdir(directory)
  process.env['PATH'] = '.::'
  try {
    assert.match(await failed(loginFromHelper('own', 'h.io')), /no program docker-credential-own/)
  } finally {
    process.chdir(folder)
    process.env['PATH'] = before
  }
})

test('credential-helpers of registries.conf are asked in their order', () =>
  withHelper('read s; [ "$s" = q.io ] && echo \'{"Username":"u","Secret":"s"}\'', async () => {
    const options = { files: [file], helpers: ['own', 'containers-auth.json'] }
    const found = await findCredentials('q.io', '', options)
    assert.equal(found, { kind: 'basic', username: 'u', password: 's' })
  }))

test('REGISTRY_AUTH_FILE is the only file; without it podman comes before docker', () => {
  assert.equal(credentialFiles({ REGISTRY_AUTH_FILE: '/a', DOCKER_CONFIG: '/d' }), ['/a'])
  assert.equal(
    credentialFiles({ XDG_RUNTIME_DIR: '/r', XDG_CONFIG_HOME: '/c', DOCKER_CONFIG: '/d' }),
    ['/r/containers/auth.json', '/c/containers/auth.json', '/d/config.json'],
  )
})

test.after(() => rmSync(directory, { recursive: true, force: true }))
test.run()
