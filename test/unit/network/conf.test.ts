import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { BUILT_IN, findNetwork, loadNetworks, parseConf } from '../../../src/network/conf.ts'
import { parseResult } from '../../../src/network/result.ts'
import { compareVersions, newestCommon } from '../../../src/network/version.ts'

const conf = (name: string, rest: object = { plugins: [{ type: 'bridge' }] }): string =>
  JSON.stringify({ cniVersion: '1.0.0', name, ...rest })

test('a list keeps its plugins, a single conf is a list of one', () => {
  const list = parseConf(conf('net'), 'f')
  assert.equal([list.name, list.cniVersion, list.plugins], ['net', '1.0.0', [{ type: 'bridge' }]])
  const single = parseConf(conf('net', { type: 'ptp', mtu: 1400 }), 'f')
  assert.is(single.plugins[0]?.type, 'ptp')
  assert.is(single.plugins[0]?.['mtu'], 1400)
})

test('a conf without a version is of the first one', () => {
  assert.is(parseConf('{"name":"a","type":"ptp"}', 'f').cniVersion, '0.1.0')
})

const refused: [name: string, text: string, message: RegExp][] = [
  ['no JSON', '{', /f: no valid JSON/],
  ['no object', '[]', /not a JSON object/],
  ['no name', '{"type":"a"}', /"name" is missing/],
  ['a name with a slash', conf('a/b'), /no name for a network/],
  ['no plugins', conf('a', { plugins: [] }), /"plugins" must be/],
  ['a plugin without type', conf('a', { plugins: [{}] }), /plugin 0 has no "type"/],
  [
    'a type that leaves the directories',
    conf('a', { plugins: [{ type: '../sh' }] }),
    /no plugin's type/,
  ],
  ['a version of the future', conf('a', { cniVersion: '2.0.0', type: 'b' }), /"2.0.0"/],
  ['bad capabilities', conf('a', { type: 'b', capabilities: { x: 1 } }), /"capabilities"/],
  [
    'more plugins than anyone has',
    conf('a', { plugins: Array(65).fill({ type: 'a' }) }),
    /more than 64/,
  ],
]
for (const [name, text, message] of refused) {
  test(`${name} is refused with the file`, () => assert.throws(() => parseConf(text, 'f'), message))
}

test('a directory is read in lexical order; what is unusable hides nothing', () => {
  const directory = mkdtempSync(join(tmpdir(), 'berth-cni-'))
  try {
    writeFileSync(join(directory, '20-b.conflist'), conf('b'))
    writeFileSync(join(directory, '10-a.conf'), conf('a', { type: 'ptp' }))
    writeFileSync(join(directory, '30-a.json'), conf('a'))
    writeFileSync(join(directory, '05-bad.conflist'), '{')
    writeFileSync(join(directory, '06-huge.conf'), ' '.repeat(1024 * 1024 + 1))
    writeFileSync(join(directory, 'README'), 'no')
    mkdirSync(join(directory, '07-directory.conf'))
    const { networks, bad } = loadNetworks(directory)
    assert.equal(
      networks.map((network) => network.name),
      ['a', 'b'],
    )
    assert.is(networks[0]?.plugins[0]?.type, 'ptp')
    assert.equal(
      bad.map(({ file }) => file.slice(directory.length + 1)),
      ['05-bad.conflist', '06-huge.conf', '07-directory.conf', '30-a.json'],
    )
    assert.is(findNetwork('bridge', directory), BUILT_IN)
    assert.throws(() => findNetwork('c', directory), /known: a, b, bridge.*05-bad/)
  } finally {
    rmSync(directory, { recursive: true })
  }
})

test('a missing directory holds no network but the built-in one', () => {
  assert.equal(loadNetworks('/nonexistent').networks, [])
  assert.is(findNetwork('bridge', '/nonexistent').name, 'bridge')
})

test('versions compare by number', () => {
  assert.ok(compareVersions('0.3.1', '0.3.0') > 0)
  assert.ok(compareVersions('1.0.0', '0.4.0') > 0)
  assert.is(compareVersions('1.0.0', '1.0.0'), 0)
  assert.is(
    newestCommon([
      ['0.4.0', '1.0.0'],
      ['0.3.1', '0.4.0', '9.9.9'],
    ]),
    '0.4.0',
  )
  assert.is(newestCommon([['1.0.0'], ['0.4.0']]), undefined)
})

test('results of all versions give one form', () => {
  const old = parseResult(
    {
      cniVersion: '0.2.0',
      ip4: { ip: '10.0.0.2/24', gateway: '10.0.0.1', routes: [{ dst: '0.0.0.0/0' }] },
      ip6: { ip: 'fd00::2/64' },
      dns: { nameservers: ['10.0.0.1'] },
    },
    '0.2.0',
    'x',
  )
  assert.equal(old.ips, [
    { address: '10.0.0.2/24', gateway: '10.0.0.1' },
    { address: 'fd00::2/64' },
  ])
  assert.equal(old.routes, [{ dst: '0.0.0.0/0' }])
  assert.equal(old.dns.nameservers, ['10.0.0.1'])
  const now = parseResult(
    {
      cniVersion: '0.4.0',
      interfaces: [{ name: 'eth0', mac: 'aa', sandbox: '/ns' }],
      ips: [{ version: '4', address: '10.0.0.2/24', interface: 0 }],
      routes: [{ dst: '0.0.0.0/0', gw: '10.0.0.1' }],
    },
    '1.0.0',
    'x',
  )
  assert.equal(now.ips, [{ address: '10.0.0.2/24', interface: 0 }])
  assert.equal(now.routes, [{ dst: '0.0.0.0/0', gw: '10.0.0.1' }])
})

for (const value of [undefined, [], { ips: 'x' }, { ips: [{}] }, { interfaces: [1] }]) {
  test(`the result ${JSON.stringify(value)} is refused`, () => {
    assert.throws(() => parseResult(value, '1.0.0', 'network x'), /network x gave/)
  })
}

test.run()
