/** What a registry may hold, pulled whole: documents are checked one by one in test/unit/image/manifest.test.ts. */
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { FaultCode } from '../../src/base/fault.ts'
import { imageHistory, inspectImage, loadArchive, pullImage } from '../../src/image/index.ts'
import { MEDIA_TYPES } from '../../src/spec/image.ts'
import { type PrivateStore, privateStore, storeContent } from '../lib/image-store.ts'
import { tar, writeLayout } from '../lib/images.ts'
import { needs } from '../lib/needs.ts'
import { refused } from '../lib/refused.ts'
import { sha256, TestRegistry } from '../lib/registry.ts'

needs('root')

const REPOSITORY = 'a/b'
const LAYER_TAR = tar([{ name: 'file', content: 'content\n' }])
const LAYER = gzipSync(LAYER_TAR)

interface Described {
  mediaType: string
  digest: string
  size: number
  [field: string]: unknown
}

interface Parts {
  config: Described
  layers: Described[]
  manifest: Record<string, unknown>
}

function described(mediaType: string, bytes: Buffer): Described {
  return { mediaType, digest: sha256(bytes), size: bytes.length }
}

function configBytes(diffIds: string[], fields: object = {}): Buffer {
  const rootfs = { type: 'layers', diff_ids: diffIds }
  return Buffer.from(JSON.stringify({ architecture: 'amd64', os: 'linux', rootfs, ...fields }))
}

/** A registry with one image of one layer; `change` gets its parts and gives the manifest. */
async function withImage(
  options: {
    change?: (parts: Parts, registry: TestRegistry) => unknown
    diffIds?: string[]
    fields?: object
  },
  use: (registry: TestRegistry, store: PrivateStore) => Promise<void>,
): Promise<void> {
  const registry = await TestRegistry.start()
  using store = privateStore()
  try {
    const layer = { mediaType: MEDIA_TYPES.ociLayerGzip, ...registry.blob(REPOSITORY, LAYER) }
    const bytes = configBytes(options.diffIds ?? [sha256(LAYER_TAR)], options.fields)
    const config = { mediaType: MEDIA_TYPES.ociConfig, ...registry.blob(REPOSITORY, bytes) }
    const type = MEDIA_TYPES.ociManifest
    const manifest = { schemaVersion: 2, mediaType: type, config, layers: [layer] }
    const changed = options.change?.({ config, layers: [layer], manifest }, registry) ?? manifest
    registry.manifest(
      REPOSITORY,
      '1',
      changed,
      (changed as { mediaType?: string }).mediaType ?? type,
    )
    await use(registry, store)
  } finally {
    await registry.stop()
  }
}

function pull(store: PrivateStore, registry: TestRegistry, name = '1', platform = 'linux/amd64') {
  const separator = name.includes(':') ? '@' : ':'
  const options = { platform, certsDirectories: [] }
  return pullImage(store, `${registry.host}/${REPOSITORY}${separator}${name}`, options)
}

function file(store: PrivateStore, registry: TestRegistry): string {
  const [diffId = ''] = inspectImage(store, `${registry.host}/${REPOSITORY}:1`).image.diffIds
  return readFileSync(join(store.layers.treePath(diffId), 'file'), 'utf8')
}

/** No image and no layer; at most a configuration that is what its digest says, which nothing leads to, so the next collection takes it. */
async function nothingIsVisible(store: PrivateStore): Promise<void> {
  assert.equal(store.catalog.list(), [])
  assert.equal(
    storeContent(store).filter((path) => !path.startsWith('images/blobs/')),
    [],
  )
  for (const digest of store.blobs.digests()) assert.ok(await store.blobs.isIntact(digest))
}

const good: [name: string, options: Parameters<typeof withImage>[0]][] = [
  [
    'of Docker schema 2',
    {
      change: ({ manifest, config, layers }) => ({
        ...manifest,
        mediaType: MEDIA_TYPES.dockerManifest,
        config: { ...config, mediaType: MEDIA_TYPES.dockerConfig },
        layers: layers.map((l) => ({ ...l, mediaType: MEDIA_TYPES.dockerLayerGzip })),
      }),
    },
  ],
  [
    'whose layers are of a kind that a registry need not hold, from one that does',
    {
      change: ({ manifest, layers }) => ({
        ...manifest,
        layers: layers.map((l) => ({
          ...l,
          mediaType: 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip',
          urls: ['http://127.0.0.1:1/never-asked'],
        })),
      }),
    },
  ],
  [
    'with a media type that says tar of a layer that is gzip, as old tools wrote it',
    {
      change: ({ manifest, layers }) => ({
        ...manifest,
        layers: layers.map((l) => ({ ...l, mediaType: MEDIA_TYPES.ociLayer })),
      }),
    },
  ],
  [
    'with annotations and a subject',
    {
      change: ({ manifest, config, layers }) => ({
        ...manifest,
        subject: { ...config, mediaType: MEDIA_TYPES.ociManifest },
        annotations: { 'org.opencontainers.image.title': 'x', __proto__x: 'y' },
        layers: layers.map((l) => ({ ...l, annotations: { a: 'b' } })),
      }),
    },
  ],
  [
    'in an index of indexes, among attestations and strangers',
    {
      change: ({ manifest }, registry) => {
        const document = registry.manifest(REPOSITORY, 'x', manifest, MEDIA_TYPES.ociManifest)
        const inner = registry.manifest(
          REPOSITORY,
          'y',
          {
            schemaVersion: 2,
            mediaType: MEDIA_TYPES.ociIndex,
            manifests: [
              {
                ...document,
                digest: sha256(LAYER),
                platform: { os: 'linux', architecture: 's390x' },
              },
              {
                ...document,
                digest: sha256(LAYER),
                platform: { os: 'unknown', architecture: 'unknown' },
              },
              {
                ...document,
                digest: sha256(LAYER),
                mediaType: 'application/vnd.example',
                platform: { os: 'linux', architecture: 'amd64' },
              },
              { ...document, platform: { os: 'linux', architecture: 'amd64' } },
            ],
          },
          MEDIA_TYPES.ociIndex,
        )
        return { schemaVersion: 2, mediaType: MEDIA_TYPES.ociIndex, manifests: [inner] }
      },
    },
  ],
]
for (const [name, options] of good) {
  test(`an image ${name} is pulled`, () =>
    withImage(options, async (registry, store) => {
      await pull(store, registry)
      assert.is(file(store, registry), 'content\n')
    }))
}

test('what descriptors carry themselves is fetched from nowhere', () => {
  const bytes = configBytes([sha256(LAYER_TAR)])
  const embedded = (mediaType: string, data: Buffer) => ({
    ...described(mediaType, data),
    data: data.toString('base64'),
  })
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MEDIA_TYPES.ociManifest,
      config: embedded(MEDIA_TYPES.ociConfig, bytes),
      layers: [embedded(MEDIA_TYPES.ociLayerGzip, LAYER)],
    }),
  )
  const entry = embedded(MEDIA_TYPES.ociManifest, manifest)
  const platform = { os: 'linux', architecture: 'amd64' }
  const index = {
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.ociIndex,
    manifests: [{ ...entry, platform }],
  }
  return withImage({ change: () => index }, async (registry, store) => {
    await pull(store, registry)
    assert.is(file(store, registry), 'content\n')
    assert.is(registry.seen.length, 1)
  })
})

function sha512(bytes: Buffer): string {
  return `sha512:${createHash('sha512').update(bytes).digest('hex')}`
}

test('blobs and manifests with sha512 digests are pulled and verified', async () => {
  const bytes = configBytes([sha256(LAYER_TAR)])
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MEDIA_TYPES.ociManifest,
      config: { ...described(MEDIA_TYPES.ociConfig, bytes), digest: sha512(bytes) },
      layers: [{ ...described(MEDIA_TYPES.ociLayerGzip, LAYER), digest: sha512(LAYER) }],
    }),
  )
  const served = new Map([bytes, manifest, LAYER].map((each) => [sha512(each), each]))
  const registry = await TestRegistry.start()
  registry.behave = ({ path }, response) => {
    const content = served.get(path.slice(path.lastIndexOf('/') + 1))
    if (content === undefined) return false
    response.writeHead(200, { 'content-length': content.length }).end(content)
    return true
  }
  try {
    using store = privateStore()
    const { id } = await pull(store, registry, sha512(manifest))
    assert.is(id, sha512(bytes))
    assert.is(store.blobs.size(sha512(LAYER) as typeof id), LAYER.length)
    // One bit of what is served under a sha512 digest, and nothing of it is taken.
    for (const victim of [bytes, manifest, LAYER]) {
      using other = privateStore()
      const bad = Buffer.from(victim)
      bad[bad.length - 1] = (bad.at(-1) ?? 0) ^ 1
      served.set(sha512(victim), bad)
      await refused(pull(other, registry, sha512(manifest)), 'DATA_LOSS', /digest/)
      served.set(sha512(victim), victim)
      await nothingIsVisible(other)
    }
  } finally {
    await registry.stop()
  }
})

test('a layer that an image has twice is fetched once and stands in both places', () =>
  withImage(
    {
      diffIds: [sha256(LAYER_TAR), sha256(LAYER_TAR)],
      change: ({ manifest, layers }) => ({ ...manifest, layers: [...layers, ...layers] }),
    },
    async (registry, store) => {
      await pull(store, registry)
      assert.is(registry.count(sha256(LAYER)), 1)
      const { image } = inspectImage(store, `${registry.host}/${REPOSITORY}:1`)
      assert.equal(image.diffIds, [sha256(LAYER_TAR), sha256(LAYER_TAR)])
    },
  ))

test('a history with fewer or more steps than layers is shown as it is, each layer once', async () => {
  const steps: [history: object[], rows: (string | undefined)[]][] = [
    [[{ created_by: 'a', empty_layer: true }], [sha256(LAYER_TAR), undefined]],
    [
      [{ created_by: 'a' }, { created_by: 'b' }],
      [undefined, sha256(LAYER_TAR)],
    ],
    [
      [{ empty_layer: true }, { created_by: 'b' }],
      [sha256(LAYER_TAR), undefined],
    ],
  ]
  for (const [history, rows] of steps) {
    await withImage({ fields: { history } }, async (registry, store) => {
      const { id } = await pull(store, registry)
      assert.equal(
        imageHistory(store, id).steps.map(({ diffId }) => diffId),
        rows,
      )
    })
  }
})

const bad: [
  name: string,
  options: Parameters<typeof withImage>[0],
  code: FaultCode,
  reason: RegExp,
][] = [
  [
    'an artifact',
    { change: ({ manifest }) => ({ ...manifest, artifactType: 'application/vnd.x.sbom' }) },
    'UNIMPLEMENTED',
    /artifact \(application\/vnd\.x\.sbom\)/,
  ],
  [
    'an index that is an artifact',
    {
      change: () => ({
        schemaVersion: 2,
        mediaType: MEDIA_TYPES.ociIndex,
        artifactType: 'application/vnd.x',
        manifests: [],
      }),
    },
    'UNIMPLEMENTED',
    /artifact/,
  ],
  [
    'an encrypted layer',
    {
      change: ({ manifest, layers }) => ({
        ...manifest,
        layers: layers.map((l) => ({ ...l, mediaType: `${MEDIA_TYPES.ociLayerGzip}+encrypted` })),
      }),
    },
    'UNIMPLEMENTED',
    /layer 1 of .* is encrypted \(application/,
  ],
  [
    'a diff id of sha512, which no peer takes either',
    { diffIds: [sha512(LAYER_TAR)] },
    'UNIMPLEMENTED',
    /diff id 1 of .* is no sha256/,
  ],
  [
    'more layers than diff ids',
    { change: ({ manifest, layers }) => ({ ...manifest, layers: [...layers, ...layers] }) },
    'INVALID_ARGUMENT',
    /1 diff ids for 2 layers/,
  ],
  [
    'one layer with two diff ids',
    {
      diffIds: [sha256(LAYER_TAR), sha256(LAYER)],
      change: ({ manifest, layers }) => ({ ...manifest, layers: [...layers, ...layers] }),
    },
    'INVALID_ARGUMENT',
    /two sizes or diff ids/,
  ],
  [
    'an entry that is another kind of document than its index says',
    {
      change: ({ manifest }, registry) => {
        const document = registry.manifest(REPOSITORY, 'x', manifest, MEDIA_TYPES.ociManifest)
        const platform = { os: 'linux', architecture: 'amd64' }
        const mediaType = MEDIA_TYPES.ociIndex
        return { schemaVersion: 2, mediaType, manifests: [{ ...document, mediaType, platform }] }
      },
    },
    'INVALID_ARGUMENT',
    /calls itself .*manifest.* but was given as .*index/,
  ],
  [
    'a manifest of another size than its index says',
    {
      change: ({ manifest }, registry) => {
        const document = registry.manifest(REPOSITORY, 'x', manifest, MEDIA_TYPES.ociManifest)
        const platform = { os: 'linux', architecture: 'amd64' }
        const entry = { ...document, size: document.size + 1, platform }
        return { schemaVersion: 2, mediaType: MEDIA_TYPES.ociIndex, manifests: [entry] }
      },
    },
    'DATA_LOSS',
    /where its index says/,
  ],
  [
    'indexes that nest for ever',
    {
      change: ({ manifest }, registry) => {
        let entry: object = registry.manifest(REPOSITORY, 'x', manifest, MEDIA_TYPES.ociManifest)
        for (let i = 0; i < 5; i++) {
          const index = { schemaVersion: 2, mediaType: MEDIA_TYPES.ociIndex, manifests: [entry] }
          entry = registry.manifest(REPOSITORY, `i${i}`, index, MEDIA_TYPES.ociIndex)
        }
        return { schemaVersion: 2, mediaType: MEDIA_TYPES.ociIndex, manifests: [entry] }
      },
    },
    'INVALID_ARGUMENT',
    /nests indexes deeper/,
  ],
  [
    'an image for Windows',
    { fields: { os: 'windows' } },
    'UNIMPLEMENTED',
    /for windows; berth runs Linux images only/,
  ],
  [
    'an image for another architecture than asked for',
    { fields: { architecture: 's390x' } },
    'NOT_FOUND',
    /for linux\/s390x, not linux\/amd64/,
  ],
]
for (const [name, options, code, reason] of bad) {
  test(`${name}: ${code}, and no layer is fetched`, () =>
    withImage(options, async (registry, store) => {
      await refused(pull(store, registry), code, reason)
      assert.is(registry.count(sha256(LAYER)), 0)
      await nothingIsVisible(store)
    }))
}

test('Docker schema 1 is refused with what to do', () =>
  withImage({}, async (registry, store) => {
    for (const type of ['v1+json', 'v1+prettyjws']) {
      const document = { schemaVersion: 1, name: 'a/b', tag: '1', fsLayers: [], history: [] }
      const mediaType = `application/vnd.docker.distribution.manifest.${type}`
      registry.manifest(REPOSITORY, '1', document, mediaType)
      await refused(
        pull(store, registry),
        'UNIMPLEMENTED',
        /schema 1 manifest.*push the image again/,
      )
    }
  }))

test('a layer that its registry does not distribute is fetched from no address of its own', async () => {
  const elsewhere = await TestRegistry.start()
  const mediaType = MEDIA_TYPES.dockerForeignLayerGzip
  const absent = { mediaType, digest: `sha256:${'4'.repeat(64)}`, size: 3 }
  const layers = [{ ...absent, urls: [`${elsewhere.url}/layer`] }]
  try {
    await withImage(
      { change: ({ manifest }) => ({ ...manifest, layers }) },
      async (registry, store) => {
        await refused(pull(store, registry), 'UNIMPLEMENTED', /not distributed by its registry/)
        assert.is(elsewhere.seen.length, 0)
      },
    )
  } finally {
    await elsewhere.stop()
  }
})

// -- layouts -----------------------------------------------------------------------------------------------

/** A layout with these images, its index changed. */
function layoutWith(
  store: PrivateStore,
  names: string[],
  change: (manifests: Described[], blob: (bytes: Buffer) => void) => Described[],
): string {
  const path = join(store.directory, 'layout')
  writeLayout(
    path,
    names.map((name) => ({ name, layers: [[{ name: 'file', content: name }]] })),
  )
  const index = JSON.parse(readFileSync(join(path, 'index.json'), 'utf8')) as {
    manifests: Described[]
  }
  const blob = (bytes: Buffer): void =>
    writeFileSync(join(path, 'blobs', sha256(bytes).replace(':', '/')), bytes)
  const manifests = change(index.manifests, blob)
  writeFileSync(join(path, 'index.json'), JSON.stringify({ ...index, manifests }))
  return path
}

test('of a layout only its images are loaded, and what else it holds is named', async () => {
  using store = privateStore()
  const signature = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MEDIA_TYPES.ociManifest,
      artifactType: 'application/vnd.dev.sigstore.bundle.v0.3+json',
      config: { mediaType: MEDIA_TYPES.ociEmpty, digest: sha256(Buffer.from('{}')), size: 2 },
      layers: [],
    }),
  )
  const path = layoutWith(store, ['x.io/x:1'], (manifests, blob) => {
    blob(signature)
    const stranger = { ...described('application/vnd.example', LAYER) }
    return [described(MEDIA_TYPES.ociManifest, signature), stranger, ...manifests]
  })
  const loaded = await loadArchive(store, path)
  assert.equal(
    loaded.map(({ names }) => names),
    [['x.io/x:1']],
  )
  assert.is(store.warnings.length, 2)
  assert.match(store.warnings[0] ?? '', /artifact \(application\/vnd\.dev\.sigstore/)
  assert.match(store.warnings[1] ?? '', /application\/vnd\.example, which is no image/)
})

test('a layout of nothing but an artifact is refused as that', async () => {
  using store = privateStore()
  const path = layoutWith(store, ['x.io/x:1'], () => [described('application/vnd.example', LAYER)])
  await refused(loadArchive(store, path), 'UNIMPLEMENTED', /application\/vnd\.example/)
})

test('of one name for several platforms the wanted one is loaded', async () => {
  using store = privateStore()
  const path = layoutWith(store, ['a', 'b'], ([a, b]) => {
    if (a === undefined || b === undefined) throw new Error('no image')
    const annotations = { 'org.opencontainers.image.ref.name': 'x.io/x:1' }
    // Other than it says, the second is for this machine: the first would be taken without a choice.
    const architecture = (b['platform'] as { architecture?: string } | undefined)?.architecture
    const own = architecture ?? (process.arch === 'x64' ? 'amd64' : process.arch)
    return [
      { ...a, annotations, platform: { os: 'linux', architecture: 's390x' } },
      { ...b, annotations, platform: { os: 'linux', architecture: own } },
    ]
  })
  const loaded = await loadArchive(store, path)
  assert.is(loaded.length, 1)
  const [diffId = ''] = inspectImage(store, 'x.io/x:1').image.diffIds
  assert.is(readFileSync(join(store.layers.treePath(diffId), 'file'), 'utf8'), 'b')
  assert.ok(existsSync(path))
})

test.run()
