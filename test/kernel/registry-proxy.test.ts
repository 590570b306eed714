import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingHttpHeaders, request as send } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { type PullOptions, pullImage } from '../../src/image/index.ts'
import { Authority } from '../lib/certificates.ts'
import { privateStore } from '../lib/image-store.ts'
import { needs } from '../lib/needs.ts'
import { TestRegistry } from '../lib/registry.ts'
import { pushImage } from '../lib/registry-image.ts'
import { testDirectory } from '../lib/traces.ts'

needs('root', 'program:openssl')

const directory = testDirectory()
const authority = new Authority(join(directory, 'ca'))
const server = authority.issue('server', 'DNS:registry.example')
// The registry's name leads nowhere: only a proxy finds it.
const certs = join(directory, 'certs.d')
mkdirSync(join(certs, 'registry.example'), { recursive: true })
writeFileSync(join(certs, 'registry.example', 'ca.crt'), readFileSync(authority.own.certificate))

interface Asked {
  readonly method: string
  readonly url: string
  readonly headers: IncomingHttpHeaders
}

/** A proxy to one address, whatever it is asked for; `refuse` answers CONNECT in its place. */
async function proxyTo(
  host: string,
  refuse?: (socket: Duplex) => void,
): Promise<{ url: string; asked: Asked[]; stop: () => Promise<void> }> {
  const asked: Asked[] = []
  const port = Number(host.split(':')[1])
  const proxy = createServer((incoming, response) => {
    const { method = '', url = '', headers } = incoming
    asked.push({ method, url, headers })
    const { pathname, search } = new URL(url)
    const onward = send({ host: '127.0.0.1', port, method, path: pathname + search, headers })
    onward.on('response', (answer) => {
      response.writeHead(answer.statusCode ?? 500, answer.headers)
      answer.pipe(response)
    })
    incoming.pipe(onward)
  })
  const sockets = new Set<Duplex>()
  proxy.on('connect', ({ method = '', url = '', headers }, socket: Duplex) => {
    asked.push({ method, url, headers })
    sockets.add(socket)
    socket.on('error', () => undefined)
    if (refuse !== undefined) {
      refuse(socket)
      return
    }
    const onward = connect(port, '127.0.0.1', () => socket.write('HTTP/1.1 200 OK\r\n\r\n'))
    sockets.add(onward)
    onward.on('error', () => socket.destroy())
    socket.pipe(onward).pipe(socket)
  })
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://user:p%20w@127.0.0.1:${(proxy.address() as AddressInfo).port}`,
    asked,
    stop: async () => {
      for (const socket of sockets) socket.destroy()
      proxy.closeAllConnections()
      await new Promise((resolve) => proxy.close(resolve))
    },
  }
}

const LOGIN = `Basic ${Buffer.from('user:p w').toString('base64')}`

async function pullBy(
  variable: string,
  url: string,
  name: string,
  options: PullOptions = {},
): Promise<string> {
  using store = privateStore()
  process.env[variable] = url
  try {
    const settings = { certsDirectories: [certs], registriesPaths: [], ...options }
    return (await pullImage(store, name, settings)).id
  } finally {
    delete process.env[variable]
  }
}

async function secureRegistry(): Promise<TestRegistry> {
  const [key, cert] = [server.key, server.certificate].map((path) => readFileSync(path, 'utf8'))
  return TestRegistry.start({ key: key ?? '', cert: cert ?? '' })
}

test('an image is pulled through the CONNECT of HTTPS_PROXY, which never sees what is inside', async () => {
  const registry = await secureRegistry()
  const { id } = pushImage(registry, 'a/b', '1', { layers: [[{ name: 'f', content: 'x' }]] })
  const proxy = await proxyTo(registry.host)
  try {
    assert.is(await pullBy('HTTPS_PROXY', proxy.url, 'registry.example/a/b:1'), id)
  } finally {
    await Promise.all([proxy.stop(), registry.stop()])
  }
  assert.ok(proxy.asked.every(({ method }) => method === 'CONNECT'))
  assert.ok(proxy.asked.every(({ url }) => url === 'registry.example:443'))
  assert.ok(proxy.asked.every(({ headers }) => headers['proxy-authorization'] === LOGIN))
  assert.ok(registry.seen.every(({ headers }) => headers['proxy-authorization'] === undefined))
  assert.ok(registry.seen.every(({ host }) => host === 'registry.example'))
})

test('plain HTTP of an insecure registry goes through HTTP_PROXY', async () => {
  const registry = await TestRegistry.start()
  const { id } = pushImage(registry, 'a/b', '1', { layers: [[{ name: 'f', content: 'x' }]] })
  const proxy = await proxyTo(registry.host)
  const insecureRegistries = ['plain.example:5000']
  const options = { insecureRegistries }
  try {
    assert.is(await pullBy('HTTP_PROXY', proxy.url, 'plain.example:5000/a/b:1', options), id)
  } finally {
    await Promise.all([proxy.stop(), registry.stop()])
  }
  assert.is(proxy.asked[0]?.url, 'http://plain.example:5000/v2/a/b/manifests/1')
  assert.ok(registry.seen.every(({ host }) => host === 'plain.example:5000'))
})

const refusals: [name: string, refuse: (socket: Duplex) => void, reason: RegExp][] = [
  [
    // The answer of whoever stands before the proxy, not the registry's (FalseCONNECT, CVE-2016-1133 and its kin).
    'that asks for a login as if it were the registry',
    (socket) =>
      socket.end(
        'HTTP/1.1 401 No\r\nwww-authenticate: Bearer realm="http://127.0.0.1:1/t"\r\ncontent-length: 0\r\n\r\n',
      ),
    /proxy .* gives no connection .* status 401/,
  ],
  [
    'that redirects',
    (socket) =>
      socket.end('HTTP/1.1 302 No\r\nlocation: https://evil.example/\r\ncontent-length: 0\r\n\r\n'),
    /status 302/,
  ],
  ['that hangs up', (socket) => socket.destroy(), /gives no connection/],
  ['that says nothing', () => undefined, /no connection for 0\.5 s/],
]
for (const [name, refuse, reason] of refusals) {
  test(`a proxy ${name} is told of, and gets no login of the registry`, async () => {
    const proxy = await proxyTo('127.0.0.1:1', refuse)
    let isAsked = false
    try {
      const credentials = { kind: 'basic', username: 'u', password: 'secret' } as const
      const timeouts = { connectMs: 500 }
      const options = { credentials, timeouts }
      const failure = await pullBy(
        'HTTPS_PROXY',
        proxy.url,
        'registry.example/a/b:1',
        options,
      ).then(
        () => 'no failure',
        (error: Error) => `${error.message} ${(error.cause as Error | undefined)?.message ?? ''}`,
      )
      assert.match(failure, reason)
      assert.not.match(failure, /p%20w|p w/)
      isAsked = proxy.asked.some(({ headers }) => headers.authorization !== undefined)
    } finally {
      await proxy.stop()
    }
    assert.is(isAsked, false)
  })
}

test.after(() => rmSync(directory, { recursive: true, force: true }))
test.run()
