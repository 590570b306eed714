import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { defaultEndpoint } from '../../../src/image/endpoint.ts'
import { parseHosts } from '../../../src/image/hosts.ts'

const defaults: [domain: string, insecure: string[], url: string][] = [
  ['docker.io', [], 'https://registry-1.docker.io/v2'],
  ['q.io', [], 'https://q.io/v2'],
  ['q.io:5000', [], 'https://q.io:5000/v2'],
  ['q.io:5000', ['q.io:5000'], 'http://q.io:5000/v2'],
  ['q.io', ['q.io:5000'], 'https://q.io/v2'],
  ['localhost:5000', [], 'http://localhost:5000/v2'],
  ['127.0.0.1:5000', [], 'http://127.0.0.1:5000/v2'],
  ['[::1]:5000', [], 'http://[::1]:5000/v2'],
  ['127.0.0.1.evil.io', [], 'https://127.0.0.1.evil.io/v2'],
]
for (const [domain, insecure, url] of defaults) {
  test(`without a file ${domain} is ${url}`, () => {
    assert.is(defaultEndpoint({ domain, path: 'x' }, insecure).url.href, url)
  })
}

function hosts(text: string, warn: (message: string) => void = assert.unreachable) {
  const repository = { domain: 'q.io', path: 'team/app' }
  return parseHosts(text, { repository, file: '/c/hosts.toml', folder: '/c', insecure: [], warn })
}

test('mirrors come in the order of the file, the server last', () => {
  const list = hosts(`
server = "https://q.io"
[host."https://b.io"]
capabilities = ["pull"]
[host."http://a.io:80/path"]
override_path = true
[host."https://c.io/x"]
`)
  assert.equal(
    list.map(({ url, isMirror }) => [url.href, isMirror]),
    [
      ['https://b.io/v2', true],
      ['http://a.io/path', true],
      ['https://c.io/x/v2', true],
      ['https://q.io/v2', false],
    ],
  )
  assert.equal([...(list[0]?.capabilities ?? [])], ['pull'])
})

test('certificates, headers and skip_verify are read, relative files below the folder', () => {
  const [first] = hosts(`
[host."https://m.io"]
ca = ["a.pem", "/abs/b.pem"]
client = [["c.pem", "k.pem"], "both.pem"]
skip_verify = true
[host."https://m.io".header]
X-One = "1"
X-Two = ["a", "b"]
`)
  assert.equal(first?.tls, {
    ca: ['/c/a.pem', '/abs/b.pem'],
    client: [
      { certificate: '/c/c.pem', key: '/c/k.pem' },
      { certificate: '/c/both.pem', key: '' },
    ],
    skipVerify: true,
  })
  assert.equal(first?.headers, { 'x-one': '1', 'x-two': 'a, b' })
})

test('the keys at the top are those of the server', () => {
  const list = hosts('server = "https://q.io"\nca = "x.pem"\n[host."https://m.io"]\n')
  assert.equal(list.at(-1)?.tls.ca, ['/c/x.pem'])
  assert.equal(list[0]?.tls.ca, [])
})

test('keys that berth does not know are told by name, and the rest counts', () => {
  const told: string[] = []
  const list = hosts('foo = 1\ndial_timeout = "3s"\n[host."https://m.io"]\nbar = 2\n', (text) =>
    told.push(text),
  )
  assert.equal(
    list.map(({ url, connectMs }) => [url.host, connectMs]),
    [
      ['m.io', undefined],
      ['q.io', 3000],
    ],
  )
  assert.match(told.join('\n'), /key bar of https:\/\/m\.io/)
  assert.match(told.join('\n'), /key foo of https:\/\/q\.io/)
})

test('a mirror is shown the login for its own host, the server that for the name', () => {
  const list = hosts('[host."https://m.io"]\n')
  assert.equal(
    list.map(({ repository }) => repository.domain),
    ['m.io', 'q.io'],
  )
})

const refused: [name: string, text: string, reason: RegExp][] = [
  ['no TOML', 'server = ', /TOML/],
  ['a dial_timeout that is no time', 'dial_timeout = 5', /dial_timeout/],
  ['another scheme', '[host."ftp://m.io"]', /neither https nor http/],
  ['credentials in an address', '[host."https://u:p@m.io"]', /credentials/],
  ['an unknown capability', '[host."https://m.io"]\ncapabilities = ["all"]', /no capability/],
  ['a text for true', '[host."https://m.io"]\nskip_verify = "yes"', /true or false/],
  ['a header with a line break', '[host."https://m.io".header]\nx = "a\\r\\nb"', /HTTP header/],
]
for (const [name, text, reason] of refused) {
  test(`${name} is refused`, () => assert.throws(() => hosts(text), reason))
}

test.run()
