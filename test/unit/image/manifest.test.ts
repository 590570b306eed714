import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Fault, type FaultCode } from '../../../src/base/fault.ts'
import {
  checkRunnable,
  LAYERS_MAX,
  MANIFEST_BYTES_MAX,
  parseConfig,
  parseDocument,
} from '../../../src/image/manifest.ts'
import { MEDIA_TYPES } from '../../../src/spec/image.ts'

const D = `sha256:${'1'.repeat(64)}`
const config = { mediaType: MEDIA_TYPES.ociConfig, digest: D, size: 10 }
const layer = { mediaType: MEDIA_TYPES.ociLayerGzip, digest: D, size: 10 }
const manifest = { schemaVersion: 2, mediaType: MEDIA_TYPES.ociManifest, config, layers: [layer] }
const entry = { mediaType: MEDIA_TYPES.ociManifest, digest: D, size: 10 }

function bytes(value: unknown): Buffer {
  return Buffer.from(typeof value === 'string' ? value : JSON.stringify(value))
}

const good: [name: string, document: object, mediaType: string | undefined, kind: string][] = [
  ['an OCI manifest', manifest, MEDIA_TYPES.ociManifest, 'manifest'],
  [
    'one with parameters in its Content-Type',
    manifest,
    `${MEDIA_TYPES.ociManifest}; charset=utf-8`,
    'manifest',
  ],
  [
    'one without a mediaType of its own',
    { ...manifest, mediaType: undefined },
    MEDIA_TYPES.ociManifest,
    'manifest',
  ],
  ['one of no stated type at all', { ...manifest, mediaType: undefined }, undefined, 'manifest'],
  ['a manifest served as text', manifest, 'text/plain', 'manifest'],
  ['null for what is empty', { ...manifest, annotations: null }, undefined, 'manifest'],
  ['an index', { schemaVersion: 2, manifests: [entry] }, MEDIA_TYPES.ociIndex, 'index'],
  [
    'a Docker list',
    { schemaVersion: 2, mediaType: MEDIA_TYPES.dockerIndex, manifests: [] },
    undefined,
    'index',
  ],
]
for (const [name, document, mediaType, kind] of good) {
  test(`${name} is read`, () =>
    assert.is(parseDocument(bytes(document), mediaType, 'x').kind, kind))
}

const refused: [name: string, document: unknown, mediaType: string | undefined, code: FaultCode][] =
  [
    [
      'an index that is a manifest too (CVE-2021-41190)',
      { ...manifest, manifests: [] },
      undefined,
      'INVALID_ARGUMENT',
    ],
    [
      'an index with a config',
      { schemaVersion: 2, manifests: [], config },
      MEDIA_TYPES.ociIndex,
      'INVALID_ARGUMENT',
    ],
    [
      'layers twice, once as only Go reads them',
      { ...manifest, Layers: [] },
      undefined,
      'INVALID_ARGUMENT',
    ],
    [
      'layers twice, once with the long s that Go takes for an s',
      { ...manifest, 'layer\u017f': [] },
      undefined,
      'INVALID_ARGUMENT',
    ],
    ['a manifest given as an index', manifest, MEDIA_TYPES.ociIndex, 'INVALID_ARGUMENT'],
    [
      'an untyped manifest given as an index',
      { ...manifest, mediaType: undefined },
      MEDIA_TYPES.ociIndex,
      'INVALID_ARGUMENT',
    ],
    [
      'an untyped index given as a manifest',
      { schemaVersion: 2, manifests: [] },
      MEDIA_TYPES.ociManifest,
      'INVALID_ARGUMENT',
    ],
    ['schema 1', { schemaVersion: 1, fsLayers: [], history: [] }, undefined, 'UNIMPLEMENTED'],
    ['another schema version', { ...manifest, schemaVersion: 3 }, undefined, 'INVALID_ARGUMENT'],
    ['schema 2 as text', { ...manifest, schemaVersion: '2' }, undefined, 'INVALID_ARGUMENT'],
    ['a list', [], undefined, 'INVALID_ARGUMENT'],
    ['null', null, undefined, 'INVALID_ARGUMENT'],
    ['no JSON', '{', undefined, 'INVALID_ARGUMENT'],
    ['no UTF-8', Buffer.from([0x22, 0xff, 0x22]).toString('latin1'), undefined, 'INVALID_ARGUMENT'],
    ['layers as an object', { ...manifest, layers: {} }, undefined, 'INVALID_ARGUMENT'],
    ['no layers', { ...manifest, layers: undefined }, undefined, 'INVALID_ARGUMENT'],
    [
      'too many layers',
      { ...manifest, layers: Array(LAYERS_MAX + 1).fill(layer) },
      undefined,
      'RESOURCE_EXHAUSTED',
    ],
    [
      'a negative size',
      { ...manifest, layers: [{ ...layer, size: -1 }] },
      undefined,
      'INVALID_ARGUMENT',
    ],
    [
      'a size with a fraction',
      { ...manifest, layers: [{ ...layer, size: 1.5 }] },
      undefined,
      'INVALID_ARGUMENT',
    ],
    [
      'a size beyond numbers',
      { ...manifest, layers: [{ ...layer, size: 1e300 }] },
      undefined,
      'INVALID_ARGUMENT',
    ],
    [
      'a layer of a petabyte',
      { ...manifest, layers: [{ ...layer, size: 1e15 }] },
      undefined,
      'RESOURCE_EXHAUSTED',
    ],
    [
      'a digest that climbs',
      { ...manifest, layers: [{ ...layer, digest: 'sha256:../../etc/passwd' }] },
      undefined,
      'INVALID_ARGUMENT',
    ],
    [
      'a digest in capitals',
      { ...manifest, layers: [{ ...layer, digest: `sha256:${'A'.repeat(64)}` }] },
      undefined,
      'INVALID_ARGUMENT',
    ],
    [
      'a digest that is a list',
      { ...manifest, layers: [{ ...layer, digest: [D] }] },
      undefined,
      'INVALID_ARGUMENT',
    ],
    [
      'embedded data of another size',
      { ...manifest, config: { ...config, data: 'e30=' } },
      undefined,
      'INVALID_ARGUMENT',
    ],
    [
      'embedded data of another digest',
      { ...manifest, config: { ...config, size: 2, data: 'e30=' } },
      undefined,
      'DATA_LOSS',
    ],
    [
      'annotations that hold numbers',
      { ...manifest, annotations: { a: 1 } },
      undefined,
      'INVALID_ARGUMENT',
    ],
    ['another type', { ...manifest, mediaType: 'application/x' }, undefined, 'UNIMPLEMENTED'],
  ]
for (const [name, document, mediaType, code] of refused) {
  test(`${name}: ${code}`, () => {
    assert.throws(
      () => parseDocument(bytes(document), mediaType, 'x'),
      (error: unknown) => error instanceof Fault && error.code === code,
    )
  })
}

test('a manifest over the limit is refused before it is parsed', () => {
  const big = Buffer.alloc(MANIFEST_BYTES_MAX + 1, 0x20)
  assert.throws(() => parseDocument(big, undefined, 'x'), /limit/)
})

test('JSON nested as deep as the limit allows neither overflows the stack nor gets in', () => {
  const deep = MANIFEST_BYTES_MAX / 2 - 100
  for (const field of ['annotations', 'layers', 'x']) {
    const nested = `${'['.repeat(deep)}${']'.repeat(deep)}`
    const text = JSON.stringify(manifest).replace('{', `{"${field}":${nested},`)
    try {
      parseDocument(bytes(text), undefined, 'x')
    } catch (error) {
      assert.instance(error, Fault)
    }
  }
})

const unrunnable: [name: string, document: object, reason: RegExp][] = [
  ['an artifact type', { ...manifest, artifactType: 'application/x.sbom' }, /artifact/],
  [
    'an empty configuration',
    { ...manifest, config: { ...config, mediaType: MEDIA_TYPES.ociEmpty } },
    /artifact/,
  ],
  [
    'a helm chart',
    { ...manifest, config: { ...config, mediaType: 'application/vnd.cncf.helm.config.v1+json' } },
    /artifact/,
  ],
  [
    'an encrypted layer',
    { ...manifest, layers: [{ ...layer, mediaType: `${MEDIA_TYPES.ociLayerGzip}+encrypted` }] },
    /encrypted/,
  ],
  [
    'an unknown layer',
    { ...manifest, layers: [{ ...layer, mediaType: 'application/x' }] },
    /no layer berth can unpack/,
  ],
  ['a huge configuration', { ...manifest, config: { ...config, size: 1e9 } }, /limit/],
]
for (const [name, document, reason] of unrunnable) {
  test(`${name} is not run`, () => {
    const read = parseDocument(bytes(document), undefined, 'x')
    assert.is(read.kind, 'manifest')
    if (read.kind === 'manifest') assert.throws(() => checkRunnable(read.manifest, 'x'), reason)
  })
}

const image = {
  architecture: 'amd64',
  os: 'linux',
  config: {
    Env: ['A=b'],
    Cmd: null,
    Entrypoint: ['/x'],
    Labels: { a: 'b' },
    Volumes: { '/v': {} },
  },
  rootfs: { type: 'layers', diff_ids: [D] },
  history: [{ created_by: 'x' }, { empty_layer: true }],
}

test('a configuration keeps what berth knows and takes null for absent', () => {
  const read = parseConfig(bytes(image), 'x', 1)
  assert.equal(read.config?.Env, ['A=b'])
  assert.is(read.config?.Cmd, undefined)
  assert.equal(read.rootfs.diff_ids, [D])
  assert.is(read.history?.length, 2)
})

test('a label __proto__ is a label', () => {
  const text = JSON.stringify(image).replace('"a":"b"', '"__proto__":"b"')
  assert.equal(Object.keys(parseConfig(bytes(text), 'x').config?.Labels ?? {}), ['__proto__'])
})

const badConfigs: [name: string, value: unknown][] = [
  ['as many diff ids as layers', { ...image, rootfs: { type: 'layers', diff_ids: [] } }],
  ['layers as its rootfs', { ...image, rootfs: { type: 'x', diff_ids: [D] } }],
  ['a rootfs', { ...image, rootfs: undefined }],
  ['an architecture', { ...image, architecture: 7 }],
  ['text in Env', { ...image, config: { Env: [1] } }],
  ['a list as Cmd', { ...image, config: { Cmd: 'sh' } }],
  ['digests as diff ids', { ...image, rootfs: { type: 'layers', diff_ids: ['x'] } }],
]
for (const [name, value] of badConfigs) {
  test(`a configuration needs ${name}`, () => {
    assert.throws(
      () => parseConfig(bytes(value), 'x', 1),
      (e: unknown) => e instanceof Fault,
    )
  })
}

test.run()
