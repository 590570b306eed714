import { gzipSync } from 'node:zlib'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { FaultCode } from '../../src/base/fault.ts'
import { type PullOptions, pullImage } from '../../src/image/index.ts'
import { type Digest, MEDIA_TYPES } from '../../src/spec/image.ts'
import { eventually } from '../lib/eventually.ts'
import { type PrivateStore, privateStore, storeContent } from '../lib/image-store.ts'
import { tar } from '../lib/images.ts'
import { needs } from '../lib/needs.ts'
import { refused } from '../lib/refused.ts'
import { type Behaviour, sha256, TestRegistry } from '../lib/registry.ts'

needs('root')

const REPOSITORY = 'a/b'
const TIMEOUTS = { connectMs: 5000, answerMs: 500, stallMs: 300 }

interface Parts {
  readonly registry: TestRegistry
  readonly layerTar: Buffer
  readonly layer: Buffer
  readonly layerDigest: string
}

/** An honest image; `change` makes the manifest lie. */
async function registryWith(
  change: (manifest: Record<string, unknown>) => unknown = (manifest) => manifest,
  diffId?: string,
): Promise<Parts> {
  const registry = await TestRegistry.start()
  // What random content costs in bytes, so that a transfer has many pieces.
  const noise = Buffer.from(
    Array.from({ length: 400_000 }, (_, i) => (i * i * 31 + (i >> 3)) & 255),
  )
  const layerTar = tar([{ name: 'file', content: noise }])
  const layer = gzipSync(layerTar, { level: 0 })
  const blob = registry.blob(REPOSITORY, layer)
  const config = registry.blob(
    REPOSITORY,
    Buffer.from(
      JSON.stringify({
        architecture: 'amd64',
        os: 'linux',
        rootfs: { type: 'layers', diff_ids: [diffId ?? sha256(layerTar)] },
      }),
    ),
  )
  const manifest = {
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.ociManifest,
    config: { mediaType: MEDIA_TYPES.ociConfig, ...config },
    layers: [{ mediaType: MEDIA_TYPES.ociLayerGzip, ...blob }],
  }
  registry.manifest(REPOSITORY, '1', change(manifest), MEDIA_TYPES.ociManifest)
  return { registry, layerTar, layer, layerDigest: blob.digest }
}

function pull(store: PrivateStore, registry: TestRegistry, options: PullOptions = {}) {
  return pullImage(store, `${registry.host}/${REPOSITORY}:1`, {
    platform: 'linux/amd64',
    timeouts: TIMEOUTS,
    certsDirectories: [],
    ...options,
  })
}

const lies: [name: string, make: () => Promise<Parts>, code: FaultCode, reason: RegExp][] = [
  [
    'a diff id that lies',
    () => registryWith(undefined, `sha256:${'0'.repeat(64)}`),
    'DATA_LOSS',
    /diff id/,
  ],
  [
    'a layer shorter than promised',
    () =>
      registryWith((m) => ({
        ...m,
        layers: (m['layers'] as { size: number }[]).map((l) => ({ ...l, size: l.size + 1 })),
      })),
    'DATA_LOSS',
    /another range/,
  ],
  [
    'a layer longer than promised',
    () =>
      registryWith((m) => ({
        ...m,
        layers: (m['layers'] as { size: number }[]).map((l) => ({ ...l, size: l.size - 1 })),
      })),
    'DATA_LOSS',
    /longer/,
  ],
  [
    'a layer that is not there',
    () =>
      registryWith((m) => ({
        ...m,
        layers: (m['layers'] as object[]).map((l) => ({
          ...l,
          digest: `sha256:${'1'.repeat(64)}`,
        })),
      })),
    'NOT_FOUND',
    /has no blob/,
  ],
  [
    'a configuration of another size',
    () =>
      registryWith((m) => ({ ...m, config: { ...(m['config'] as { size: number }), size: 5 } })),
    'DATA_LOSS',
    /configuration/,
  ],
  [
    'a manifest that is an index too',
    () => registryWith((m) => ({ ...m, manifests: [] })),
    'INVALID_ARGUMENT',
    /at once/,
  ],
]
for (const [name, make, code, reason] of lies) {
  test(`${name} is refused and leaves nothing`, async () => {
    using store = privateStore()
    const { registry } = await make()
    try {
      await refused(pull(store, registry), code, reason)
    } finally {
      await registry.stop()
    }
    // The configuration is what its digest says; without the image's record nothing leads to it.
    assert.equal(
      storeContent(store).filter((path) => !/^images\/(?:ingest\/|blobs\/sha256\/)/.test(path)),
      [],
    )
    assert.ok([...store.blobs.list()].length <= 1)
    assert.equal(store.catalog.list(), [])
  })
}

/** Behaviour for requests whose path holds the text. */
function on(text: string, behave: Behaviour): Behaviour {
  return (seen, response) => seen.path.includes(text) && behave(seen, response)
}

test('blob bytes that are not those of the digest are refused, though they unpack well', async () => {
  using store = privateStore()
  const { registry, layer, layerDigest } = await registryWith()
  const other = Buffer.from(layer)
  other[9] = (other[9] ?? 0) ^ 1
  registry.behave = on(layerDigest, (_, response) => {
    response.writeHead(200, { 'content-length': other.length }).end(other)
    return true
  })
  await refused(pull(store, registry), 'DATA_LOSS', /digest/)
  await registry.stop()
  assert.is(store.blobs.has(layerDigest as Digest), false)
  assert.is([...store.blobs.list()].length, 1)
  assert.equal(store.catalog.list(), [])
})

test('a manifest that is not the one of its digest is refused', async () => {
  using store = privateStore()
  const { registry } = await registryWith()
  const name = `${registry.host}/${REPOSITORY}@sha256:${'2'.repeat(64)}`
  registry.behave = on('/manifests/', (_, response) => {
    response.writeHead(200, { 'content-type': MEDIA_TYPES.ociManifest }).end('{"schemaVersion":2}')
    return true
  })
  await refused(pullImage(store, name, { certsDirectories: [] }), 'DATA_LOSS', /digest/)
  await registry.stop()
})

test('an endless manifest is cut off at its limit', async () => {
  using store = privateStore()
  const { registry } = await registryWith()
  let sent = 0
  registry.behave = on('/manifests/', (_, response) => {
    response.writeHead(200, { 'content-type': MEDIA_TYPES.ociManifest })
    const chunk = Buffer.alloc(65_536, 0x20)
    const more = (): void => {
      while (!response.destroyed) {
        sent += chunk.length
        if (!response.write(chunk)) {
          response.once('drain', more)
          return
        }
      }
    }
    more()
    return true
  })
  await refused(pull(store, registry), 'RESOURCE_EXHAUSTED', /longer/)
  assert.ok(sent < 64 * 1024 * 1024)
  await registry.stop()
})

test('a layer cut at 20 places is taken up by ranges, each byte fetched once', async () => {
  using store = privateStore()
  const { registry, layer, layerDigest } = await registryWith()
  let cuts = 0
  let sent = 0
  registry.behave = on(layerDigest, (seen, response) => {
    const start = Number(/bytes=([0-9]+)-/.exec(seen.range ?? '')?.[1] ?? 0)
    if (cuts++ >= 20) return false
    const part = layer.subarray(start, start + 7919)
    sent += part.length
    const headers: Record<string, string | number> = { 'content-length': layer.length - start }
    if (start > 0) headers['content-range'] = `bytes ${start}-${layer.length - 1}/${layer.length}`
    response.writeHead(start > 0 ? 206 : 200, headers)
    response.write(part, () => response.destroy())
    return true
  })
  await pull(store, registry)
  await registry.stop()
  assert.is(registry.count(layerDigest), 21)
  assert.ok(sent <= 20 * 7919)
})

test('a server that ignores ranges is read again from its start, without a byte twice in the layer', async () => {
  using store = privateStore()
  const { registry, layer, layerDigest } = await registryWith()
  let isFirst = true
  registry.behave = on(layerDigest, (_, response) => {
    response.writeHead(200, { 'content-length': layer.length })
    if (isFirst) response.write(layer.subarray(0, 100_000), () => response.destroy())
    else response.end(layer)
    isFirst = false
    return true
  })
  await pull(store, registry)
  await registry.stop()
})

test('a pull that was cut off leaves its part, and the next one begins there', async () => {
  using store = privateStore()
  const { registry, layer, layerDigest } = await registryWith()
  const abort = new AbortController()
  registry.behave = on(layerDigest, (_, response) => {
    response.writeHead(200, { 'content-length': layer.length })
    response.write(layer.subarray(0, 200_000))
    return true
  })
  const first = pull(store, registry, {
    signal: abort.signal,
    progress: ({ done }) => {
      if (done >= 200_000) abort.abort(new Error('enough'))
    },
  })
  try {
    await first
    assert.unreachable()
  } catch (error) {
    assert.match(String(error), /enough/)
  }
  registry.behave = () => false
  await pull(store, registry)
  await registry.stop()
  assert.is(registry.seen.at(-1)?.range, 'bytes=200000-')
})

test('a part that rotted on the disk is thrown away and fetched anew', async () => {
  using store = privateStore()
  const { registry, layerDigest } = await registryWith()
  const { writeFileSync } = await import('node:fs')
  const part = `${store.root}/images/ingest/${layerDigest.replace(':', '-')}`
  writeFileSync(part, Buffer.alloc(1000))
  await pull(store, registry)
  await registry.stop()
  assert.is(registry.count(layerDigest), 2)
})

test('a transfer that stands still is given up and tried again', async () => {
  using store = privateStore()
  const { registry, layer, layerDigest } = await registryWith()
  let isFirst = true
  registry.behave = on(layerDigest, (_, response) => {
    if (!isFirst) return false
    isFirst = false
    response.writeHead(200, { 'content-length': layer.length })
    response.write(layer.subarray(0, 1000))
    return true
  })
  await pull(store, registry)
  await registry.stop()
})

test('status 503 and 429 with Retry-After are tried again; a Retry-After of a day is not waited for', async () => {
  using store = privateStore()
  const { registry } = await registryWith()
  let count = 0
  registry.behave = on('/manifests/1', (_, response) => {
    count++
    if (count > 2) return false
    response.writeHead(count === 1 ? 503 : 429, { 'retry-after': '0' }).end()
    return true
  })
  await pull(store, registry)
  assert.is(count, 3)
  registry.behave = on('/manifests/1', (_, response) => {
    response.writeHead(429, { 'retry-after': '86400' }).end()
    return true
  })
  await refused(pull(store, registry), 'UNAVAILABLE', /fewer requests/)
  await registry.stop()
})

test('two pulls at once fetch a blob once', async () => {
  using store = privateStore()
  const { registry, layerDigest } = await registryWith()
  const [a, b] = await Promise.all([pull(store, registry), pull(store, registry)])
  await registry.stop()
  assert.is(a.id, b.id)
  assert.is(registry.count(layerDigest), 1)
})

test('a login never reaches the host that a redirect leads to', async () => {
  using store = privateStore()
  const { registry, layer, layerDigest } = await registryWith()
  const elsewhere = await TestRegistry.start()
  elsewhere.behave = (_, response) => {
    response.writeHead(200, { 'content-length': layer.length }).end(layer)
    return true
  }
  registry.login = { kind: 'basic', username: 'u', password: 'p' }
  registry.behave = on(layerDigest, (seen, response) => {
    if (seen.authorization === undefined) return false
    response.writeHead(307, { location: `${elsewhere.url}/blob` }).end()
    return true
  })
  const credentials = { kind: 'basic', username: 'u', password: 'p' } as const
  await pull(store, registry, { credentials })
  await Promise.all([registry.stop(), elsewhere.stop()])
  assert.is(elsewhere.seen.length, 1)
  assert.is(elsewhere.seen[0]?.authorization, undefined)
})

test('a 401 of the redirected host is not answered with the login (CVE-2020-15157)', async () => {
  using store = privateStore()
  const { registry, layerDigest } = await registryWith()
  const thief = await TestRegistry.start()
  thief.login = { kind: 'basic', username: 'u', password: 'p' }
  registry.behave = on(layerDigest, (_, response) => {
    response.writeHead(307, { location: `${thief.url}/v2/x/blobs/y` }).end()
    return true
  })
  const credentials = { kind: 'basic', username: 'u', password: 'p' } as const
  await refused(pull(store, registry, { credentials }), 'UNAUTHENTICATED', /refuses/)
  await Promise.all([registry.stop(), thief.stop()])
  assert.ok(thief.seen.every(({ authorization }) => authorization === undefined))
})

test('a ring of redirects ends', async () => {
  using store = privateStore()
  const { registry } = await registryWith()
  registry.behave = (seen, response) => {
    response.writeHead(302, { location: seen.path }).end()
    return true
  }
  await refused(pull(store, registry), 'UNAVAILABLE', /redirects more than/)
  await registry.stop()
})

test('token login: anonymous, with a user, and renewed when the registry forgets its tokens mid-pull', async () => {
  const { registry, layerDigest } = await registryWith()
  registry.login = { kind: 'bearer' }
  using anonymous = privateStore()
  await pull(anonymous, registry)
  assert.is(registry.count('/token'), 1)
  registry.login = { kind: 'bearer', username: 'u', password: 'p' }
  let isFirst = true
  registry.behave = on(layerDigest, () => {
    if (isFirst) registry.expireTokens()
    isFirst = false
    return false
  })
  using store = privateStore()
  await pull(store, registry, { credentials: { kind: 'basic', username: 'u', password: 'p' } })
  assert.is(registry.count('/token'), 3)
  using other = privateStore()
  const wrong = { kind: 'basic', username: 'u', password: 'x' } as const
  await refused(pull(other, registry, { credentials: wrong }), 'UNAUTHENTICATED', /credentials/)
  await refused(pull(other, registry), 'UNAUTHENTICATED', /log in/)
  await registry.stop()
})

test('words of a registry reach the terminal without control characters', async () => {
  using store = privateStore()
  const { registry } = await registryWith()
  registry.behave = (_, response) => {
    response.writeHead(403).end('{"errors":[{"message":"no\\u001b[2Jway\\n"}]}')
    return true
  }
  await refused(pull(store, registry), 'PERMISSION_DENIED', /: no \[2Jway $/)
  await registry.stop()
})

test('an abort ends a pull at once and its connections', async () => {
  using store = privateStore()
  const { registry, layerDigest } = await registryWith()
  let isClosed = false
  const abort = new AbortController()
  registry.behave = on(layerDigest, (_, response) => {
    response.on('close', () => {
      isClosed = true
    })
    abort.abort(new Error('stop it'))
    return true
  })
  try {
    await pull(store, registry, { signal: abort.signal })
    assert.unreachable()
  } catch (error) {
    assert.match(String(error), /stop it/)
  }
  await eventually('the connection is closed', () => isClosed)
  await registry.stop()
})

test.run()
