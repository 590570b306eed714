/** Where a login goes, a pull finds it, and a logout takes it away: files and helpers of every kind. */
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { findCredentials } from '../../src/image/credentials.ts'
import { logIn, logOut } from '../../src/image/login.ts'
import { needs } from '../lib/needs.ts'
import { TestRegistry } from '../lib/registry.ts'
import { testDirectory, traces } from '../lib/traces.ts'

needs('root')

const directory = testDirectory()
const registry = await TestRegistry.start()
const clean = traces({ roots: [directory] })
const { host } = registry
registry.behave = ({ path }, response) => {
  if (path === '/v2/') response.writeHead(200).end('{}')
  return path === '/v2/'
}
/** Debian's nobody. */
const NOBODY = 65534
const LOGIN = { username: 'user', password: 'secret' }
const FOUND = { kind: 'basic', ...LOGIN }

/** A helper that keeps each server's login in a file of its own, as they all do: by exactly the name it is asked for. */
const programs = join(directory, 'programs')
const kept = join(directory, 'kept')
mkdirSync(programs)
writeFileSync(
  join(programs, 'docker-credential-kept'),
  `#!/bin/sh
file() { printf '${kept}/%s' "$(printf %s "$1" | tr / _)"; }
if [ $1 = store ]; then
  text=$(cat)
  printf %s "$text" > "$(file "$(printf %s "$text" | sed 's/.*"ServerURL":"\\([^"]*\\)".*/\\1/')")"
else
  at=$(file "$(cat)")
  [ -e "$at" ] || { echo 'credentials not found in native keychain'; exit 1; }
  if [ $1 = get ]; then cat "$at"; else rm "$at"; fi
fi
`,
)
chmodSync(join(programs, 'docker-credential-kept'), 0o755)

let file = ''

async function withHome(
  config: object | undefined,
  use: (settings: { certsDirectories: []; registriesPaths: string[] }) => Promise<void>,
  conf = '',
): Promise<void> {
  const home = mkdtempSync(join(directory, 'home-'))
  rmSync(kept, { recursive: true, force: true })
  mkdirSync(kept)
  file = join(home, 'config.json')
  if (config !== undefined) writeFileSync(file, JSON.stringify(config))
  const registries = join(home, 'registries.conf')
  writeFileSync(registries, conf)
  const before = { ...process.env }
  process.env['REGISTRY_AUTH_FILE'] = file
  process.env['PATH'] = `${programs}:${before['PATH']}`
  try {
    await use({ certsDirectories: [], registriesPaths: [registries] })
  } finally {
    process.env = before
  }
}

const homes: [name: string, config: object, conf: string][] = [
  ['a file', {}, ''],
  ['a helper for all', { credsStore: 'kept' }, ''],
  ['a helper for the host', { credHelpers: { [host]: 'kept' } }, ''],
  [
    'a helper for the host by an old name',
    { credHelpers: { [`https://${host}/v1/`]: 'kept' } },
    '',
  ],
  [
    'the first helper of registries.conf',
    {},
    "credential-helpers = ['kept', 'containers-auth.json']",
  ],
  ['files named by registries.conf', {}, "credential-helpers = ['containers-auth.json', 'kept']"],
]
for (const [name, config, conf] of homes) {
  for (const server of [host, `${host}/team`]) {
    const below = server === host ? 'the host' : 'a namespace'
    test(`${name}: a login for ${below} is found by a pull, and gone after the logout`, () =>
      withHome(
        config,
        async (settings) => {
          const helpers = /\[(.*)\]/.exec(conf)?.[1]?.replaceAll("'", '').split(', ')
          const find = (path: string) => findCredentials(host, path, { helpers })
          const { kept: place } = await logIn(server, LOGIN, settings)
          assert.is(place, name.includes('helper') ? 'docker-credential-kept' : file)
          assert.equal(await find('team/app'), FOUND)
          assert.equal(await find('other'), server === host ? FOUND : undefined)
          const from = await logOut(server, settings)
          assert.ok(from.includes(place), `${from} without ${place}`)
          assert.is(await find('team/app'), undefined)
          assert.equal(readdirSync(kept), [])
        },
        conf,
      ))
  }
}

test('the hub’s helper is found under each of the hub’s names, and asked by its address', async () => {
  const keys = ['docker.io', 'index.docker.io', 'https://index.docker.io/v1/']
  for (const key of keys) {
    await withHome({ credHelpers: { [key]: 'kept' } }, async () => {
      const stored = { ServerURL: '', Username: 'user', Secret: 'secret' }
      writeFileSync(join(kept, 'https:__index.docker.io_v1_'), JSON.stringify(stored))
      assert.equal(await findCredentials('docker.io', 'library/x'), FOUND, key)
    })
  }
})

test('what a helper does not know is looked for in the file', () =>
  withHome(
    { credHelpers: { [host]: 'kept' }, auths: { [host]: { auth: btoa('user:secret') } } },
    async () => assert.equal(await findCredentials(host, 'x'), FOUND),
  ))

test('a namespace’s login in the helper goes before the host’s in the file', () =>
  withHome({ auths: { [host]: { auth: btoa('host:h') } } }, async (settings) => {
    const config = JSON.parse(readFileSync(file, 'utf8')) as object
    writeFileSync(file, JSON.stringify({ ...config, credsStore: 'kept' }))
    await logIn(`${host}/team`, LOGIN, settings)
    assert.equal(await findCredentials(host, 'team/app'), FOUND)
    assert.equal((await findCredentials(host, 'x'))?.kind, 'basic')
    assert.not.equal(await findCredentials(host, 'x'), FOUND)
  }))

test('a file that cannot be read is refused by name, and keeps its logins', () =>
  withHome({ auths: { 'q.io': { auth: btoa('u:p') } } }, async (settings) => {
    chmodSync(directory, 0o755)
    chmodSync(file, 0o600)
    const before = readFileSync(file, 'utf8')
    chownSync(join(file, '..'), NOBODY, NOBODY)
    process.seteuid?.(NOBODY)
    try {
      const failure = await logIn(host, LOGIN, settings).then(() => 'none', String)
      assert.ok(failure.includes(`${file} cannot be read`), failure)
    } finally {
      process.seteuid?.(0)
    }
    assert.is(readFileSync(file, 'utf8'), before)
  }))

test('what a killed login left of the file goes with the next', () =>
  withHome({}, async (settings) => {
    const left = `${file}.tmp-0123456789ab`
    writeFileSync(left, '{"auths":{}}')
    await logIn(host, LOGIN, settings)
    assert.not.ok(existsSync(left))
    assert.equal(await findCredentials(host, 'x'), FOUND)
  }))

test('nothing is left behind', async () => {
  await registry.stop()
  rmSync(directory, { recursive: true, force: true })
  await clean()
})

test.run()
