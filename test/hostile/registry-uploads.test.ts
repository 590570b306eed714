import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { describe } from '../../src/base/fault.ts'
import { pullImage, pushImage } from '../../src/image/index.ts'
import { CuttingProxy } from '../lib/cutting-proxy.ts'
import { type PrivateStore, privateStore } from '../lib/image-store.ts'
import { needs } from '../lib/needs.ts'
import { Random } from '../lib/random.ts'
import { TestRegistry } from '../lib/registry.ts'
import { pushImage as put } from '../lib/registry-image.ts'

needs('root')

const LOGIN = { kind: 'basic', username: 'u', password: 'p' } as const
const SETTINGS = {
  certsDirectories: [],
  registriesPaths: [],
  credentials: LOGIN,
  timeouts: { connectMs: 5000, answerMs: 500, stallMs: 500 },
}
const SEED = 20_261_126

function noise(bytes: number): Buffer {
  const random = new Random(SEED)
  const block = Buffer.from(Array.from({ length: 65_521 }, () => random.between(0, 255)))
  return Buffer.alloc(bytes, block)
}

/** An image of one layer in a store, and a registry to push it to that asks for a login. */
async function withImage(
  use: (at: {
    store: PrivateStore
    registry: TestRegistry
    /** Name of the image in the store. */
    image: string
    layer: string
    push: (host?: string) => Promise<{ digest: string }>
  }) => Promise<void>,
  layerBytes = 200_000,
): Promise<void> {
  const origin = await TestRegistry.start()
  const registry = await TestRegistry.start()
  registry.login = LOGIN
  using store = privateStore()
  try {
    const { name, layers } = put(origin, 'from/app', '1', {
      layers: [[{ name: 'file', content: noise(layerBytes) }]],
    })
    await pullImage(store, name, { ...SETTINGS, blobs: true })
    const push = (host = registry.host) => pushImage(store, name, `${host}/a/b:1`, SETTINGS)
    await use({ store, registry, image: name, layer: layers[0] ?? '', push })
  } finally {
    await Promise.all([origin.stop(), registry.stop()])
  }
}

const failureOf = (work: Promise<unknown>): Promise<string> =>
  work.then(() => 'no failure', describe)

/** Whether the registry can serve what was pushed. */
async function isWhole(registry: TestRegistry): Promise<boolean> {
  using fresh = privateStore()
  await pullImage(fresh, `${registry.host}/a/b:1`, SETTINGS)
  return true
}

test('an upload that is cut at 100 random places goes on where the registry says it is', () =>
  withImage(async ({ registry, push }) => {
    const random = new Random(SEED)
    const proxy = await CuttingProxy.start(registry.host, { cuts: 100, bytesMax: 60_000, random })
    try {
      await push(proxy.host)
    } finally {
      await proxy.stop()
    }
    assert.is(proxy.cutsLeft, 0)
    assert.ok(await isWhole(registry))
    // What was underway at a cut is lost, and no more than that.
    assert.ok(proxy.sent < 4_000_000 + 100 * 70_000, `${proxy.sent} bytes were sent`)
  }, 4_000_000))

test('a registry that forgets the upload gets it anew', () =>
  withImage(async ({ registry, push }) => {
    let isFirst = true
    registry.behave = ({ method }, response) => {
      if (method !== 'PUT' || !isFirst) return false
      isFirst = false
      registry.uploads.forget()
      response.destroy()
      return true
    }
    await push()
    registry.behave = () => false
    assert.ok(await isWhole(registry))
  }))

test('a registry that takes no large body gets pieces, none shorter than it asks for', () =>
  withImage(async ({ registry, push }) => {
    registry.uploads.bodyMax = 20_000_000
    registry.uploads.chunkMin = 17_000_000
    await push()
    const pieces = registry.uploads.bodies.filter(({ method }) => method === 'PATCH')
    assert.ok(pieces.length >= 2)
    assert.ok(pieces.slice(0, -1).every(({ size }) => size >= 17_000_000))
    registry.uploads.bodyMax = Number.POSITIVE_INFINITY
    assert.ok(await isWhole(registry))
  }, 36_000_000))

test('an upload that goes on elsewhere goes without the login', () =>
  withImage(async ({ registry, push }) => {
    const elsewhere = await TestRegistry.start()
    registry.uploads.origin = elsewhere.url
    try {
      assert.match(await failureOf(push()), /404|lost the upload/)
    } finally {
      await elsewhere.stop()
    }
    assert.ok(elsewhere.seen.length > 0)
    assert.ok(elsewhere.seen.every(({ authorization }) => authorization === undefined))
    assert.is(registry.count('/manifests/'), 0)
  }))

test('a login that the place elsewhere asks for is not given', () =>
  withImage(async ({ registry, push }) => {
    const thief = await TestRegistry.start()
    thief.behave = (_, response) => {
      response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end()
      return true
    }
    registry.uploads.origin = thief.url
    try {
      assert.match(await failureOf(push()), /refuses/)
    } finally {
      await thief.stop()
    }
    assert.ok(thief.seen.every(({ authorization }) => authorization === undefined))
  }))

const lies: [name: string, lie: (registry: TestRegistry) => void, reason: RegExp][] = [
  [
    'stored other bytes',
    ({ uploads }) => {
      uploads.digest = `sha256:${'0'.repeat(64)}`
    },
    /does not match its digest/,
  ],
  [
    'has more than was sent',
    ({ uploads }) => {
      uploads.bodyMax = 1000
      uploads.range = '0-99999999999'
    },
    /takes no body|says it has/,
  ],
  [
    'keeps nothing of what it takes',
    (registry) => {
      const { uploads } = registry
      uploads.range = '0-0'
      // The first body is cut, so that the rest goes in pieces.
      let bodies = 0
      registry.behave = ({ method }, response) => {
        if (method !== 'PUT' || bodies++ > 0) return false
        response.destroy()
        return true
      }
    },
    /./,
  ],
  [
    'leads to no address',
    ({ uploads }) => {
      uploads.origin = 'http://['
    },
    /no valid place/,
  ],
  [
    'leads to a file',
    ({ uploads }) => {
      uploads.origin = 'file://'
    },
    /less safe/,
  ],
]
for (const [name, lie, reason] of lies) {
  test(`a registry that says it ${name} gets no manifest for it, or a whole image`, () =>
    withImage(async ({ registry, push }) => {
      lie(registry)
      const failure = await failureOf(push())
      assert.match(failure, reason)
      const manifests = registry.seen.filter(
        ({ method, path }) => method === 'PUT' && path.includes('/manifests/'),
      )
      if (failure === 'no failure') assert.ok(await isWhole(registry))
      else assert.is(manifests.length, 0)
    }))
}

test('a registry that stops reading is given up', () =>
  withImage(async ({ registry, push }) => {
    registry.behave = ({ method }) => method === 'PUT'
    assert.match(await failureOf(push()), /gave no (?:answer|sign of reading)/)
  }, 8_000_000))

test('a blob that has rotted on the disk is pushed to nobody', () =>
  withImage(async ({ store, registry, layer, push }) => {
    const { writeFileSync, readFileSync } = await import('node:fs')
    const path = `${store.root}/images/blobs/${layer.replace(':', '/')}`
    const bytes = readFileSync(path)
    bytes[1000] = (bytes[1000] ?? 0) ^ 1
    writeFileSync(path, bytes)
    assert.match(await failureOf(push()), /digest|status 400/i)
    assert.is(registry.seen.filter(({ path: p }) => p.includes('/manifests/')).length, 0)
  }))

test('an interrupted push ends at once and leaves no name', () =>
  withImage(async ({ store, registry, image }) => {
    const abort = new AbortController()
    registry.behave = ({ method }) => {
      if (method === 'PUT') abort.abort(new Error('enough'))
      return method === 'PUT'
    }
    const options = { ...SETTINGS, signal: abort.signal }
    const failure = await failureOf(pushImage(store, image, `${registry.host}/a/b:1`, options))
    assert.match(failure, /enough/)
    assert.is(registry.count('/manifests/'), 0)
  }))

test.run()
