import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { hostnameFile, hostsFile, parseHost } from '../../../src/network/hosts.ts'
import { isLoopback, parseResolv, resolvFile } from '../../../src/network/resolv.ts'

const hosts = { hostname: 'web', aliases: ['db', 'web'], addresses: ['10.89.0.2'], addHosts: [] }

test('a container finds localhost and itself', () => {
  const text = hostsFile(hosts)
  assert.match(text, /^127\.0\.0\.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n/)
  assert.match(text, /\n10\.89\.0\.2\tweb db\n$/)
})

test('without a network its name still resolves', () => {
  assert.match(hostsFile({ ...hosts, addresses: [] }), /\n127\.0\.1\.1\tweb db\n$/)
})

test('added hosts come before its own name', () => {
  const text = hostsFile({
    ...hosts,
    addHosts: ['web:1.2.3.4', 'six=[fd00::1]', 'up:host-gateway'],
    gateway: '10.89.0.1',
  })
  assert.match(text, /\n1\.2\.3\.4\tweb\nfd00::1\tsix\n10\.89\.0\.1\tup\n10\.89\.0\.2\tweb db\n$/)
})

test("in the host's network the host's file is kept", () => {
  assert.is(
    hostsFile({ ...hosts, hostFile: '127.0.0.1 localhost', addHosts: ['a:1.2.3.4'] }),
    '127.0.0.1 localhost\n1.2.3.4\ta\n',
  )
})

test('host-gateway needs a gateway', () => {
  assert.throws(() => hostsFile({ ...hosts, addHosts: ['a:host-gateway'] }), /no gateway/)
})

for (const text of ['a', ':1.2.3.4', 'a:', 'a:1.2.3', 'a b:1.2.3.4', 'a\n:1.2.3.4']) {
  test(`--add-host ${JSON.stringify(text)} is refused`, () => {
    assert.throws(() => parseHost(text), /--add-host/)
  })
}

test('an IPv6 address may be added with and without brackets', () => {
  assert.equal(parseHost('a:fd00::1'), { name: 'a', address: 'fd00::1' })
  assert.equal(parseHost('a:[fd00::1]'), { name: 'a', address: 'fd00::1' })
})

test('the host name is a line', () => assert.is(hostnameFile('web'), 'web\n'))

const resolv = { hostFile: '', ownNetwork: true, servers: [], searches: [], options: [] }
const HOST =
  'search a.example b.example\nnameserver 127.0.0.53 # stub\nnameserver 9.9.9.9\noptions edns0\n'

test("the host's servers are copied but for those on its loopback", () => {
  assert.equal(resolvFile({ ...resolv, hostFile: HOST }), {
    text: 'nameserver 9.9.9.9\nsearch a.example b.example\noptions edns0\n',
  })
})

test("in the host's network its loopback is the container's", () => {
  assert.match(resolvFile({ ...resolv, hostFile: HOST, ownNetwork: false }).text, /127\.0\.0\.53/)
})

test('behind a stub the real servers are taken', () => {
  const { text } = resolvFile({
    ...resolv,
    hostFile: 'nameserver 127.0.0.53\n',
    resolvedFile: 'nameserver 192.0.2.1\nsearch c.example\n',
  })
  assert.is(text, 'nameserver 192.0.2.1\nsearch c.example\n')
})

test('no server of a third party is put in; the user is told', () => {
  const { text, warning } = resolvFile({
    ...resolv,
    hostFile: 'nameserver ::1\nnameserver 127.0.0.1\n',
  })
  assert.is(text, '')
  assert.match(warning ?? '', /--dns/)
})

test('a host without servers is no reason for a warning', () => {
  assert.equal(resolvFile(resolv), { text: '' })
})

test("what was asked for wins over the network's, and that over the host's, each by itself", () => {
  const network = {
    nameservers: ['10.0.0.1'],
    search: [],
    options: ['ndots:2'],
    domain: 'n.example',
  }
  assert.is(
    resolvFile({ ...resolv, hostFile: HOST, network }).text,
    'nameserver 10.0.0.1\nsearch n.example\noptions ndots:2\n',
  )
  assert.is(
    resolvFile({ ...resolv, hostFile: HOST, network, servers: ['127.0.0.1'], searches: ['.'] })
      .text,
    'nameserver 127.0.0.1\noptions ndots:2\n',
  )
})

test('the last search line of a file counts', () => {
  assert.equal(parseResolv('domain a\nsearch b c\n; comment\nnameserver 1.1.1.1\n').searches, [
    'b',
    'c',
  ])
})

test('loopback addresses are known in all spellings', () => {
  for (const yes of [
    '127.0.0.1',
    '127.0.0.53',
    '::1',
    '0:0:0:0:0:0:0:1',
    '::1%lo',
    '::ffff:127.0.0.1',
  ]) {
    assert.ok(isLoopback(yes), yes)
  }
  for (const no of ['10.0.0.1', '::2', 'fe80::1', 'fd00::1']) assert.not(isLoopback(no), no)
})

test.run()
