import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Fault } from '../../../src/base/fault.ts'
import { parseConfig, parseDocument } from '../../../src/image/manifest.ts'
import { MEDIA_TYPES } from '../../../src/spec/image.ts'
import { imageSchemas } from '../../lib/schemas.ts'

for (const name of imageSchemas.names)
  test(`${name} is a schema`, () => assert.ok(imageSchemas.isSchema(name)))

const D = `sha256:${'1'.repeat(64)}`
const LONG = `sha512:${'2'.repeat(128)}`
const config = { mediaType: MEDIA_TYPES.ociConfig, digest: D, size: 2 }
const layer = { mediaType: MEDIA_TYPES.ociLayerGzip, digest: D, size: 32654 }
const manifest = { schemaVersion: 2, config, layers: [layer] }
const image = {
  architecture: 'amd64',
  os: 'linux',
  rootfs: { type: 'layers', diff_ids: [D] },
}
const entry = { mediaType: MEDIA_TYPES.ociManifest, digest: D, size: 7143 }
const index = { schemaVersion: 2, manifests: [entry] }

type Kind = 'image-manifest-schema' | 'image-index-schema' | 'config-schema'

/** What berth says to the document: undefined where it reads it. */
function refusal(kind: Kind, document: unknown): string | undefined {
  const bytes = Buffer.from(JSON.stringify(document))
  const type = kind === 'image-index-schema' ? MEDIA_TYPES.ociIndex : MEDIA_TYPES.ociManifest
  try {
    if (kind === 'config-schema') parseConfig(bytes, 'x')
    else parseDocument(bytes, type, 'x')
    return undefined
  } catch (error) {
    if (error instanceof Fault) return error.message
    throw error
  }
}

const valid: [kind: Kind, what: string, document: object][] = [
  ['image-manifest-schema', 'with the least', manifest],
  [
    'image-manifest-schema',
    'with everything',
    {
      ...manifest,
      mediaType: MEDIA_TYPES.ociManifest,
      config: { ...config, annotations: { a: 'b' } },
      layers: [
        { ...layer, digest: LONG, annotations: {} },
        { ...layer, mediaType: MEDIA_TYPES.ociLayerZstd, urls: ['https://layers.example/1'] },
      ],
      subject: entry,
      annotations: { 'org.opencontainers.image.title': 'x' },
    },
  ],
  [
    'image-manifest-schema',
    'of an artifact',
    {
      ...manifest,
      artifactType: 'application/vnd.example.sbom.v1+json',
      config: { mediaType: MEDIA_TYPES.ociEmpty, digest: D, size: 2 },
      layers: [{ mediaType: 'text/spdx', digest: D, size: 1 }],
    },
  ],
  ['image-index-schema', 'of nothing', { ...index, manifests: [] }],
  [
    'image-index-schema',
    'with everything',
    {
      ...index,
      mediaType: MEDIA_TYPES.ociIndex,
      artifactType: 'application/vnd.example+type',
      manifests: [
        { ...entry, platform: { architecture: 'arm', os: 'linux', variant: 'v7' } },
        {
          ...entry,
          platform: {
            architecture: 'amd64',
            os: 'windows',
            'os.version': '10.0.1',
            'os.features': ['win32k'],
          },
        },
        { ...entry, annotations: { 'vnd.docker.reference.type': 'attestation-manifest' } },
      ],
      subject: entry,
      annotations: { a: '' },
    },
  ],
  ['config-schema', 'with the least', image],
  [
    'config-schema',
    'with everything',
    {
      ...image,
      created: '2015-10-31T22:22:56.015925234Z',
      author: 'Someone <someone@example.com>',
      variant: 'v2',
      'os.version': '1',
      'os.features': ['a'],
      config: {
        User: 'alice',
        ExposedPorts: { '8080/tcp': {} },
        Env: ['PATH=/bin', 'A='],
        Entrypoint: ['/bin/app'],
        Cmd: ['--foreground'],
        Volumes: { '/var/data': {} },
        WorkingDir: '/home/alice',
        Labels: { 'com.example.label': 'x' },
        StopSignal: 'SIGQUIT',
        ArgsEscaped: true,
      },
      history: [
        { created: '2015-10-31T22:22:54+02:00', created_by: 'ADD file:x in /' },
        { created_by: 'CMD ["sh"]', empty_layer: true, author: 'x', comment: 'y' },
      ],
    },
  ],
  [
    'config-schema',
    'with the nulls that Go writes for what is empty',
    { ...image, config: { Entrypoint: null, Cmd: null, Volumes: null, Labels: null } },
  ],
]
for (const [kind, what, document] of valid) {
  test(`${kind}: a document ${what} is valid and berth reads it`, () => {
    assert.equal(imageSchemas.violations(kind, document), [])
    assert.is(refusal(kind, document), undefined)
  })
}

/** The schema's reason, and berth's. */
const invalid: [kind: Kind, what: string, document: object, schema: RegExp, berth: RegExp][] = [
  [
    'image-manifest-schema',
    'without a configuration',
    { ...manifest, config: undefined },
    /required property 'config'/,
    /configuration of x.*must be an object/,
  ],
  [
    'image-manifest-schema',
    'without layers',
    { ...manifest, layers: undefined },
    /required property 'layers'/,
    /lists no layers/,
  ],
  [
    'image-manifest-schema',
    'without a schemaVersion',
    { ...manifest, schemaVersion: undefined },
    /required property 'schemaVersion'/,
    /schemaVersion must be 2/,
  ],
  [
    'image-manifest-schema',
    'of another schemaVersion',
    { ...manifest, schemaVersion: 3 },
    /schemaVersion must be <= 2/,
    /schemaVersion must be 2/,
  ],
  [
    'image-manifest-schema',
    'whose mediaType is no media type',
    { ...manifest, mediaType: 'layer' },
    /mediaType must match pattern/,
    /mediaType is no media type/,
  ],
  [
    'image-manifest-schema',
    'whose layer has no mediaType',
    { ...manifest, layers: [{ ...layer, mediaType: undefined }] },
    /layers\/0 must have required property 'mediaType'/,
    /layer 1 of x.*no mediaType/,
  ],
  [
    'image-manifest-schema',
    'whose layer has a malformed mediaType',
    { ...manifest, layers: [{ ...layer, mediaType: 'application/../x y' }] },
    /mediaType must match pattern/,
    /layer 1 of x.*media ?type/i,
  ],
  [
    'image-manifest-schema',
    'whose layer has a size in text',
    { ...manifest, layers: [{ ...layer, size: '1' }] },
    /layers\/0\/size must be integer/,
    /size must be a whole number/,
  ],
  [
    'image-manifest-schema',
    'whose layer has a negative size',
    { ...manifest, layers: [{ ...layer, size: -1 }] },
    /size must be >= 0/,
    /size must be a whole number/,
  ],
  [
    'image-manifest-schema',
    'whose digest has no algorithm',
    { ...manifest, config: { ...config, digest: '1'.repeat(64) } },
    /config\/digest must match pattern/,
    /no valid digest/,
  ],
  [
    'image-manifest-schema',
    'whose annotation is a number',
    { ...manifest, annotations: { a: 1 } },
    /annotations\/a must be string/,
    /annotations must map text to text/,
  ],
  [
    'image-index-schema',
    'without manifests',
    { ...index, manifests: undefined },
    /required property 'manifests'/,
    /lists no manifests/,
  ],
  [
    'image-index-schema',
    'whose platform names no system',
    { ...index, manifests: [{ ...entry, platform: { architecture: 'amd64' } }] },
    /platform must have required property 'os'/,
    /os and architecture/,
  ],
  [
    'image-index-schema',
    'whose entry has no size',
    { ...index, manifests: [{ ...entry, size: undefined }] },
    /required property 'size'/,
    /size must be a whole number/,
  ],
  [
    'config-schema',
    'without a rootfs',
    { ...image, rootfs: undefined },
    /required property 'rootfs'/,
    /no rootfs/,
  ],
  [
    'config-schema',
    'of another kind of rootfs',
    { ...image, rootfs: { ...image.rootfs, type: 'btrfs' } },
    /rootfs\/type must be equal to one of/,
    /rootfs.type must be "layers"/,
  ],
  [
    'config-schema',
    'whose diff ids are numbers',
    { ...image, rootfs: { type: 'layers', diff_ids: [7] } },
    /diff_ids\/0 must be string/,
    /no valid digest/,
  ],
  [
    'config-schema',
    'of no architecture',
    { ...image, architecture: undefined },
    /required property 'architecture'/,
    /os and architecture/,
  ],
  [
    'config-schema',
    'whose environment is text',
    { ...image, config: { Env: 'A=b' } },
    /config\/Env must be array/,
    /Env must be a list/,
  ],
  [
    'config-schema',
    'whose time is no time',
    { ...image, created: 'yesterday' },
    /created must match format "date-time"/,
    /created must be/,
  ],
  [
    'config-schema',
    'whose port is a list',
    { ...image, config: { ExposedPorts: { '80/tcp': [] } } },
    /ExposedPorts\/80~1tcp must be object/,
    /ExposedPorts must map/,
  ],
]
for (const [kind, what, document, schema, berth] of invalid) {
  test(`${kind}: a document ${what} is invalid, and berth refuses it`, () => {
    const sent: unknown = JSON.parse(JSON.stringify(document))
    assert.match(imageSchemas.violations(kind, sent).join('; '), schema)
    assert.match(refusal(kind, sent) ?? 'berth reads it', berth)
  })
}

test('berth reads an image without layers, which docker makes, though the schema asks for one', () => {
  const document = { ...manifest, layers: [] }
  assert.match(imageSchemas.violations('image-manifest-schema', document).join(), /fewer than 1/)
  assert.is(refusal('image-manifest-schema', document), undefined)
})

test('berth reads an image of no layers without diff_ids, though the schema asks for them', () => {
  const document = { ...image, rootfs: { type: 'layers' } }
  assert.match(imageSchemas.violations('config-schema', document).join(), /diff_ids/)
  assert.is(refusal('config-schema', document), undefined)
})

test('berth verifies sha256 and sha512 only, though the schema allows any algorithm', () => {
  const document = { ...manifest, config: { ...config, digest: 'multihash+base58:QmRZxt2b1FVZ' } }
  assert.equal(imageSchemas.violations('image-manifest-schema', document), [])
  assert.match(refusal('image-manifest-schema', document) ?? '', /no valid digest/)
})

test.run()
