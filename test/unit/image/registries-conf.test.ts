import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { parseReference } from '../../../src/image/reference.ts'
import {
  parseRegistries,
  readRegistries,
  registryEndpoints,
} from '../../../src/image/registries-conf.ts'

const parse = (text: string, warn: (message: string) => void = assert.unreachable) =>
  parseRegistries(text, '/r.conf', warn)

function addresses(text: string, name: string): string[] | undefined {
  return registryEndpoints(parse(text), parseReference(name), [])?.map(
    ({ url, repository }) => `${url.origin} ${repository.domain}/${repository.path}`,
  )
}

const DIGEST = `sha256:${'0'.repeat(64)}`
const FILE = `
unqualified-search-registries = ["docker.io"]
short-name-mode = "enforcing"
credential-helpers = ["containers-auth.json"]
[aliases]
"x" = "q.io/x"

[[registry]]
prefix = "q.io"
location = "inner.io/all"
[[registry]]
location = "q.io/team"
[[registry.mirror]]
location = "m1.io/t"
[[registry.mirror]]
location = "m2.io:5000"
pull-from-mirror = "digest-only"
[[registry.mirror]]
location = "m3.io"
pull-from-mirror = "tag-only"
[[registry]]
prefix = "*.wild.io"
location = "tame.io"
[[registry]]
prefix = "*.as-it-is.io"
[[registry]]
location = "docker.io"
[[registry.mirror]]
location = "hub.example"
[[registry]]
prefix = "one.io/a/b:1"
location = "two.io/c"
`

const cases: [name: string, expected: string[] | undefined][] = [
  ['other.io/x', undefined],
  ['q.io/x/y', ['https://inner.io inner.io/all/x/y']],
  ['q.io.evil.com/x', undefined],
  ['q.io/teams/x', ['https://inner.io inner.io/all/teams/x']],
  ['q.io/team/x', ['https://m1.io m1.io/t/x', 'https://m3.io m3.io/x', 'https://q.io q.io/team/x']],
  [
    `q.io/team/x@${DIGEST}`,
    ['https://m1.io m1.io/t/x', 'https://m2.io:5000 m2.io:5000/x', 'https://q.io q.io/team/x'],
  ],
  ['a.b.wild.io/x', ['https://tame.io tame.io/x']],
  ['wild.io/x', undefined],
  ['e.io/a.wild.io/x', undefined],
  ['a.as-it-is.io/x', ['https://a.as-it-is.io a.as-it-is.io/x']],
  [
    'nginx',
    [
      'https://hub.example hub.example/library/nginx',
      'https://registry-1.docker.io docker.io/library/nginx',
    ],
  ],
  ['one.io/a/b:1', ['https://two.io two.io/c']],
  ['one.io/a/b:2', undefined],
]
for (const [name, expected] of cases) {
  test(`registries.conf leads ${name} to ${expected?.join(', ') ?? 'nowhere'}`, () => {
    assert.equal(addresses(FILE, name), expected)
  })
}

test('a blocked registry is PERMISSION_DENIED with the file named', () => {
  const text = '[[registry]]\nprefix = "bad.io"\nblocked = true\n'
  assert.throws(
    () => addresses(text, 'bad.io/x'),
    (error: { code?: string; message: string }) =>
      error.code === 'PERMISSION_DENIED' && /r\.conf blocks bad\.io/.test(error.message),
  )
})

test('insecure allows an unknown certificate and, after it, plain HTTP; nothing is pushed to a mirror', () => {
  const text = `[[registry]]
location = "q.io"
insecure = true
[[registry.mirror]]
location = "m.io"
`
  const [mirror, own] = registryEndpoints(parse(text), parseReference('q.io/x'), []) ?? []
  assert.equal([own?.mayBePlain, own?.tls.skipVerify], [true, true])
  assert.equal([mirror?.mayBePlain, mirror?.tls.skipVerify], [false, false])
  assert.is(mirror?.capabilities.has('push'), false)
  assert.is(own?.capabilities.has('push'), true)
})

test('mirror-by-digest-only keeps all mirrors for digests', () => {
  const text =
    '[[registry]]\nlocation = "q.io"\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = "m.io"\n'
  assert.equal(addresses(text, 'q.io/x'), ['https://q.io q.io/x'])
  assert.is(addresses(text, `q.io/x@${DIGEST}`)?.length, 2)
})

test('unknown keys are told by name', () => {
  const told: string[] = []
  parse(
    'foo = 1\n[[registry]]\nlocation = "q.io"\nbar = 2\n[[registry.mirror]]\nlocation = "m.io"\nbaz = 1\n',
    (text) => told.push(text),
  )
  assert.equal(
    told.map((text) => /key (\w+)/.exec(text)?.[1]),
    ['foo', 'bar', 'baz'],
  )
})

const refused: [name: string, text: string, reason: RegExp][] = [
  ['no TOML', '[[', /TOML/],
  ['version 1', '[registries.block]\nregistries = ["x"]', /version 1/],
  ['a registry without anything', '[[registry]]\n', /neither prefix nor location/],
  ['a scheme', '[[registry]]\nlocation = "http://q.io"', /without http/],
  ['a wildcard in the middle', '[[registry]]\nprefix = "a.*.io"\nlocation = "x.io"', /wildcard/],
  ['a mirror without location', '[[registry]]\nlocation="q.io"\n[[registry.mirror]]\n', /mirror/],
  [
    'another pull-from-mirror',
    '[[registry]]\nlocation="q.io"\n[[registry.mirror]]\nlocation="m.io"\npull-from-mirror="no"',
    /pull-from-mirror/,
  ],
  ['a text for true', '[[registry]]\nlocation="q.io"\nblocked="yes"', /true or false/],
  ['credential-helpers as text', 'credential-helpers = "x"', /list of text/],
]
for (const [name, text, reason] of refused) {
  test(`${name} in registries.conf is refused`, () => assert.throws(() => parse(text), reason))
}

test('a location that docker would take for another one is refused', () => {
  const text = '[[registry]]\nprefix = "q.io"\nlocation = "mirror"\n'
  assert.throws(() => addresses(text, 'q.io/x'), /no host and repository/)
})

test('a drop-in replaces the entry of the same prefix, in the order of the names', () => {
  const directory = mkdtempSync(join(tmpdir(), 'berth-conf-'))
  try {
    const drop = join(directory, 'd')
    mkdirSync(drop)
    const entry = (to: string): string => `[[registry]]\nprefix = "q.io"\nlocation = "${to}"\n`
    writeFileSync(join(directory, 'main'), entry('main.io'))
    writeFileSync(join(drop, '2.conf'), entry('two.io'))
    writeFileSync(join(drop, '1.conf'), entry('one.io'))
    writeFileSync(join(drop, '3.txt'), entry('three.io'))
    const paths = [join(directory, 'main'), drop, join(directory, 'none')]
    const conf = readRegistries(paths, assert.unreachable)
    assert.equal(
      conf.registries.map(({ location }) => location),
      ['two.io'],
    )
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
})

test.run()
