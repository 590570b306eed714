/**
 * Debian's docker-registry behind a proxy that cuts connections at random bytes: pulls go on where they were, and pushes, whose uploads it forgets when they
 * are cut, begin these anew. BERTH_TEST_SEED says where.
 */
import { copyFileSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  collect,
  type ImageStore,
  inspectImage,
  loadArchive,
  type PullOptions,
  pullImage,
  pushImage,
} from '../../src/image/index.ts'
import { fingerprintTree } from '../../src/layer/fingerprint.ts'
import { Authority } from '../lib/certificates.ts'
import { CuttingProxy } from '../lib/cutting-proxy.ts'
import { type DockerRegistry, dockerRegistry, freePort } from '../lib/docker-registry.ts'
import { privateStore, storeContent } from '../lib/image-store.ts'
import { type TarEntry, writeLayout } from '../lib/images.ts'
import { needs } from '../lib/needs.ts'
import { Random } from '../lib/random.ts'
import { TokenServer } from '../lib/token-server.ts'
import { testDirectory, traces } from '../lib/traces.ts'

needs('root', 'program:docker-registry', 'program:openssl')

const SEED = Number(process.env['BERTH_TEST_SEED'] ?? 20_261_127)
process.stdout.write(`# seed ${SEED}\n`)
/** Of each registry. */
const PULLS = 2
const CUTS_PER_PULL = 13
const PUSH_CUTS = 6
const PUSHES_MAX = 60
/** What a connection costs beside the layers' bytes: a TLS handshake, headers, perhaps a manifest or a configuration once more. */
const CONNECTION_BYTES_MAX = 10_000
/** One that is cut is lost whole (RFC 8446, 5.1: 2^14 bytes, and what encryption adds). */
const TLS_RECORD_BYTES_MAX = 17_000
const LARGE_BYTES = 400_000
const SMALL_BYTES = 30_000

const directory = testDirectory()
// libuv opens /dev/null for itself with a process's first socket: that is none of ours to find.
await freePort()
const clean = traces({ roots: [directory] })
const random = new Random(SEED)

function noise(bytes: number): Buffer {
  return Buffer.from(Uint32Array.from({ length: bytes / 4 }, () => random.next() * 2 ** 32).buffer)
}

const layer = (i: number, bytes: number): TarEntry[] => [
  { name: `d${i}/`, type: 'directory', mode: 0o711, uid: i },
  { name: `d${i}/noise`, content: noise(bytes) },
]
const layout = join(directory, 'layout')
/** Few layers that a connection does not last for, and many that a push gets through with before its attempts are used up. */
writeLayout(layout, [
  { name: 'q.io/large:1', layers: [1, 2, 3].map((i) => layer(i, LARGE_BYTES)) },
  {
    name: 'q.io/small:1',
    layers: Array.from({ length: 16 }, (_, i) => layer(i, SMALL_BYTES)),
  },
])
const peaceful = privateStore()
await loadArchive(peaceful, layout)

const credentials = { kind: 'basic', username: 'user', password: 'secret' } as const
const passwords = join(directory, 'htpasswd')
// bcrypt of "secret", since docker-registry takes nothing else.
writeFileSync(passwords, 'user:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n')
const tokens = await TokenServer.start(join(directory, 'token'))
tokens.users.set('user', 'secret')
const authority = new Authority(join(directory, 'authority'))
const { certificate, key } = authority.issue('server', 'IP:127.0.0.1')
const certs = join(directory, 'certs.d')

const htpasswd = { htpasswd: { realm: 'x', path: passwords } }
const start = (name: string, extra: object = {}, http: object = {}): Promise<DockerRegistry> =>
  dockerRegistry(directory, name, { log: { level: 'error' }, ...extra }, { ...http })
const registries: [kind: string, registry: DockerRegistry][] = [
  ['plain', await start('plain')],
  ['htpasswd', await start('htpasswd', { auth: htpasswd })],
  ['tokens', await start('tokens', { auth: tokens.auth })],
  ['tls', await start('tls', { auth: htpasswd }, { tls: { certificate, key } })],
]
const [[, plain]] = registries as [[string, DockerRegistry]]

/** How a host of that kind is spoken to. */
function optionsFor(kind: string, host: string): PullOptions {
  if (kind === 'tls') {
    mkdirSync(join(certs, host), { recursive: true })
    copyFileSync(authority.own.certificate, join(certs, host, 'ca.crt'))
  }
  const settings = { certsDirectories: [certs], registriesPaths: [] }
  return kind === 'plain' ? settings : { ...settings, credentials }
}

/** Trees of the image's layers, bottom first. */
function treesOf(store: ImageStore, image: string): Promise<string[]> {
  const { diffIds } = inspectImage(store, image).image
  const infos = new Map(store.layers.list().map((info) => [info.diffId, info]))
  return Promise.all(
    diffIds.map((diffId) =>
      fingerprintTree(store.layers.treePath(diffId), infos.get(diffId)?.implicit ?? []),
    ),
  )
}

/** The image is what was loaded in peace, and nothing of its coming is left beside it. */
async function isWhole(store: ImageStore, name: string, loaded: string): Promise<void> {
  const { image } = inspectImage(store, name)
  assert.is(image.id, inspectImage(peaceful, loaded).image.id)
  assert.equal(await treesOf(store, name), await treesOf(peaceful, loaded))
  const before = storeContent(store)
  const roots = () => ({ images: [], layers: [] })
  const { reclaimedBytes } = await collect(store, { roots, wait: true, partials: true })
  assert.is(reclaimedBytes, 0)
  assert.equal(storeContent(store), before)
}

const count = (registry: DockerRegistry, pattern: RegExp): number =>
  registry.answers().filter((line) => pattern.test(line)).length

for (const [kind, registry] of registries) {
  const { host } = registry
  const options = optionsFor(kind, host)

  test(`${kind}: ${PULLS} pulls that are cut ${CUTS_PER_PULL} times each go on where they were`, async () => {
    const { digest } = await pushImage(peaceful, 'q.io/large:1', `${host}/team/large:1`, options)
    const layerBytes = 3 * LARGE_BYTES
    for (let i = 0; i < PULLS; i++) {
      using store = privateStore()
      const proxy = await CuttingProxy.start(host, {
        cuts: CUTS_PER_PULL,
        bytesMax: 60_000,
        random,
      })
      try {
        const name = `${proxy.host}/team/large:1`
        const pulled = await pullImage(store, name, optionsFor(kind, proxy.host))
        assert.is(pulled.digest, digest)
        assert.is(proxy.cutsLeft, 0)
        const lost = CONNECTION_BYTES_MAX + (kind === 'tls' ? TLS_RECORD_BYTES_MAX : 0)
        const most = layerBytes + proxy.connections * lost
        assert.ok(proxy.received < most, `${proxy.received} bytes came, ${most} at most`)
        await isWhole(store, name, 'q.io/large:1')
      } finally {
        await proxy.stop()
      }
    }
    assert.ok(count(registry, /^GET .*\/blobs\/.* 206$/) >= (PULLS * CUTS_PER_PULL) / 2)
  })

  test(`${kind}: pushes that are cut ${PUSH_CUTS} times begin the upload anew`, async () => {
    const blobs = inspectImage(peaceful, 'q.io/small:1').image.diffIds.length + 1
    const begun = /^POST .*\/blobs\/uploads\/ 202$/
    const before = count(registry, begun)
    let pushes = 0
    // A cut before the body's first bytes leaves the upload as it was: until one came later.
    const begunAnew = (): boolean => count(registry, begun) - before > pushes * blobs
    for (let cuts = PUSH_CUTS; cuts > 0 || !begunAnew(); pushes++) {
      assert.ok(pushes < PUSHES_MAX, `no upload begun anew in ${pushes} pushes`)
      // Each at another port: of no other repository there is it known that it has the layers, and nothing is mounted.
      const proxy = await CuttingProxy.start(host, {
        cuts: Math.max(cuts, 1),
        bytesMax: 400_000,
        random,
      })
      const path = `team/small${pushes}:1`
      try {
        const through = optionsFor(kind, proxy.host)
        const { digest } = await pushImage(
          peaceful,
          'q.io/small:1',
          `${proxy.host}/${path}`,
          through,
        )
        using store = privateStore()
        assert.is((await pullImage(store, `${host}/${path}`, options)).digest, digest)
        await isWhole(store, `${host}/${path}`, 'q.io/small:1')
      } finally {
        await proxy.stop()
      }
      cuts = proxy.cutsLeft
    }
  })
}

/** Pulls through a proxy that cuts, and goes away for good when more than half of the image is here. */
async function pullHalf(
  store: ImageStore,
  proxy: CuttingProxy,
  name: string,
  options: PullOptions,
): Promise<unknown> {
  const arrived = new Map<string, number>()
  let stopped: Promise<void> | undefined
  const progress: PullOptions['progress'] = ({ id, phase, done }) => {
    if (phase === 'downloading') arrived.set(id, done)
    const sum = [...arrived.values()].reduce((all, bytes) => all + bytes, 0)
    if (sum > 1.5 * LARGE_BYTES) stopped ??= proxy.stop()
  }
  try {
    return await pullImage(store, name, { ...options, progress })
  } finally {
    await (stopped ?? proxy.stop())
  }
}

const cutting = (cuts: number) => CuttingProxy.start(plain.host, { cuts, bytesMax: 60_000, random })
/** Less than half of the layers, and some in flight. */
const REST_BYTES_MAX = 1.5 * LARGE_BYTES + 50_000

test('what a failed pull has fetched is not fetched again by the next', async () => {
  using store = privateStore()
  const proxy = await cutting(1000)
  const options = optionsFor('plain', plain.host)
  const failed = pullHalf(store, proxy, `${proxy.host}/team/large:1`, options)
  assert.match(await failed.then(() => 'no failure', String), /cannot reach/)
  const again = await cutting(0)
  try {
    await pullImage(store, `${again.host}/team/large:1`, options)
    assert.ok(again.received < REST_BYTES_MAX, `${again.received} bytes came`)
    await isWhole(store, `${again.host}/team/large:1`, 'q.io/large:1')
  } finally {
    await again.stop()
  }
})

test('where a mirror goes away, the registry behind it sends the rest', async () => {
  const twin = await start('twin')
  const mirror = await cutting(1000)
  const proxy = await CuttingProxy.start(twin.host, { cuts: 0, bytesMax: 1, random })
  try {
    using store = privateStore()
    const options = optionsFor('plain', twin.host)
    await pushImage(peaceful, 'q.io/large:1', `${twin.host}/team/large:1`, options)
    mkdirSync(join(certs, 'mirrored.example'), { recursive: true })
    writeFileSync(
      join(certs, 'mirrored.example/hosts.toml'),
      `server = "http://${proxy.host}"
[host."http://${mirror.host}"]
capabilities = ["pull", "resolve"]
`,
    )
    await pullHalf(store, mirror, 'mirrored.example/team/large:1', options)
    assert.ok(proxy.received > LARGE_BYTES, `${proxy.received} bytes came`)
    assert.ok(proxy.received < REST_BYTES_MAX, `${proxy.received} bytes came`)
    assert.is(count(twin, /^GET .*\/manifests\//), 0)
    await isWhole(store, 'mirrored.example/team/large:1', 'q.io/large:1')
  } finally {
    await Promise.all([twin.stop(), proxy.stop()])
  }
})

test('a server of tokens whose connections are cut is asked again', async () => {
  using store = privateStore()
  // No answer is that short: so many attempts are cut, at any place.
  const proxy = await CuttingProxy.start(tokens.host, { cuts: 3, bytesMax: 1000, random })
  const registry = await start('tokens-cut', { auth: tokens.authAt(proxy.host) })
  try {
    const options = optionsFor('tokens', registry.host)
    const { digest } = await pushImage(peaceful, 'q.io/small:1', `${registry.host}/a/b:1`, options)
    assert.is(proxy.cutsLeft, 0)
    proxy.cutsLeft = 3
    assert.is((await pullImage(store, `${registry.host}/a/b:1`, options)).digest, digest)
    assert.is(proxy.cutsLeft, 0)
  } finally {
    await Promise.all([registry.stop(), proxy.stop()])
  }
})

test('a registry that may be spoken to by plain HTTP and speaks TLS is not taken for a plain one after a cut', async () => {
  using store = privateStore()
  const storage = { filesystem: { rootdirectory: plain.data } }
  const registry = await start('tls-open', { storage }, { tls: { certificate, key } })
  // Within the first handshake, and the second.
  const proxy = await CuttingProxy.start(registry.host, { cuts: 2, bytesMax: 100, random })
  try {
    const conf = join(store.directory, 'registries.conf')
    // Not 127.0.0.1, which is spoken to by plain HTTP alone.
    const location = proxy.host.replace('127.0.0.1', '0.0.0.0')
    writeFileSync(
      conf,
      `[[registry]]\nprefix = "q.example"\nlocation = "${location}"\ninsecure = true\n`,
    )
    const options = { certsDirectories: [], registriesPaths: [conf] }
    await pullImage(store, 'q.example/team/large:1', options)
    assert.is(proxy.cutsLeft, 0)
    await isWhole(store, 'q.example/team/large:1', 'q.io/large:1')
  } finally {
    await Promise.all([registry.stop(), proxy.stop()])
  }
})

test('nothing is left behind', async () => {
  await Promise.all([...registries.map(([, registry]) => registry.stop()), tokens.stop()])
  peaceful[Symbol.dispose]()
  rmSync(directory, { recursive: true, force: true })
  await clean()
})

test.run()
