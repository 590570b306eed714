import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { describe } from '../../src/base/fault.ts'
import { pullImage } from '../../src/image/index.ts'
import { privateStore } from '../lib/image-store.ts'
import { needs } from '../lib/needs.ts'
import { type Behaviour, TestRegistry } from '../lib/registry.ts'

needs('root')

const TIMEOUTS = { connectMs: 2000, answerMs: 500, stallMs: 300, documentMs: 1000 }

/** How a pull with a login ends at a registry that behaves so. */
async function failureAt(behave: (registry: TestRegistry) => Behaviour): Promise<string> {
  using store = privateStore()
  const registry = await TestRegistry.start()
  registry.behave = behave(registry)
  try {
    const pulled = pullImage(store, `${registry.host}/a/b:1`, {
      certsDirectories: [],
      registriesPaths: [],
      timeouts: TIMEOUTS,
      credentials: { kind: 'basic', username: 'u', password: 'secret' },
    })
    return await pulled.then(() => 'no failure', describe)
  } finally {
    await registry.stop()
  }
}

const asking =
  (realm: string): Behaviour =>
  (_, response) => {
    response.writeHead(401, { 'www-authenticate': `Bearer realm="${realm}",service="x"` }).end()
    return true
  }

const realms: [realm: string, reason: RegExp][] = [
  ['file:///etc/shadow', /token server without TLS/],
  ['http://192.0.2.1/token', /token server without TLS/],
  ['ftp://127.0.0.1/token', /token server without TLS/],
  ['http://[', /no valid token server/],
]
for (const [realm, reason] of realms) {
  test(`the realm ${realm} gets no login`, async () => {
    assert.match(await failureAt(() => asking(realm)), reason)
  })
}

const answers: [name: string, behave: (registry: TestRegistry) => Behaviour, reason: RegExp][] = [
  [
    'a token without end',
    (registry) => (seen, response) => {
      if (!seen.path.startsWith('/token')) return asking(`${registry.url}/token`)(seen, response)
      response.writeHead(200)
      response.end(`{"token":"${'x'.repeat(2 * 1024 * 1024)}"}`)
      return true
    },
    /longer than 1048576/,
  ],
  [
    'a token that breaks the header',
    (registry) => (seen, response) => {
      if (!seen.path.startsWith('/token')) return asking(`${registry.url}/token`)(seen, response)
      response.writeHead(200).end('{"token":"a\\r\\nhost: evil"}')
      return true
    },
    /without a token/,
  ],
  [
    'headers without end',
    () => (_, response) => {
      response.writeHead(200, { 'x-much': 'x'.repeat(100_000) }).end()
      return true
    },
    /[Hh]eader/,
  ],
  [
    'a manifest in drips',
    () => (_, response) => {
      response.writeHead(200)
      const timer = setInterval(() => response.write(' '), 20)
      response.on('close', () => clearInterval(timer))
      return true
    },
    /sent (?:too little|[0-9]+ bytes) in/,
  ],
]
for (const [name, behave, reason] of answers) {
  test(`${name} is given up`, async () => {
    assert.match(await failureAt(behave), reason)
  })
}

test.run()
