import {
  checkRunnable,
  MANIFEST_MEDIA_TYPES,
  parseConfig,
  parseDocument,
} from '../../../src/image/manifest.ts'
import { choosePlatform, hostPlatform } from '../../../src/image/platform.ts'
import { pairLayers } from '../../../src/image/pull.ts'
import { MEDIA_TYPES } from '../../../src/spec/image.ts'
import { orFault, same, type Target } from '../target.ts'

const D = `sha256:${'1'.repeat(64)}`
const platform = { architecture: 'amd64', os: 'linux', variant: 'v2', 'os.features': ['x'] }
const layer = {
  mediaType: MEDIA_TYPES.ociLayerGzip,
  digest: D,
  size: 9,
  annotations: { a: 'b' },
  urls: ['https://x'],
}
const config = {
  mediaType: MEDIA_TYPES.ociConfig,
  digest: 'sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a',
  size: 2,
  data: 'e30=',
}
const manifest = {
  schemaVersion: 2,
  mediaType: MEDIA_TYPES.ociManifest,
  config,
  layers: [layer],
  subject: layer,
  annotations: { a: 'b' },
}
const index = {
  schemaVersion: 2,
  mediaType: MEDIA_TYPES.ociIndex,
  manifests: [{ ...layer, mediaType: MEDIA_TYPES.ociManifest, platform }],
}
const image = {
  created: '2026-01-01T00:00:00Z',
  architecture: 'amd64',
  os: 'linux',
  config: {
    User: 'u',
    Env: ['A=b'],
    Cmd: ['/x'],
    ExposedPorts: { '80/tcp': {} },
    Labels: { a: 'b' },
    Healthcheck: { Test: ['NONE'] },
  },
  rootfs: { type: 'layers', diff_ids: [D] },
  history: [{ created_by: 'x', empty_layer: true }],
}
const words = [
  ...Object.values(MEDIA_TYPES),
  'sha512:',
  D,
  '"schemaVersion":2',
  '"schemaVersion":1',
  '"manifests":[]',
  '"fsLayers"',
  '"__proto__":',
  '"constructor":',
  '"data":"e30="',
  '"diff_ids"',
  'null',
  'true',
  '{}',
  '[]',
  '1e400',
  '-0',
  '"',
  '\\u0000',
  '+encrypted',
]

export const documents: Target = {
  run: (input) => {
    const bytes = input.subarray(1)
    const types = [...MANIFEST_MEDIA_TYPES, 'text/plain', undefined]
    const type = types[(input[0] ?? 0) % types.length]
    const read = orFault(() => parseDocument(bytes, type, 'x'))
    if (!('value' in read)) return
    const { value } = read
    // What berth has understood, written by berth, is understood as the same.
    const document = value.kind === 'index' ? value.index : value.manifest
    const again = orFault(() =>
      parseDocument(Buffer.from(JSON.stringify(document)), value.mediaType, 'x'),
    )
    same(read, again, 'read, and written and read again')
    orFault(() => {
      if (value.kind === 'index') choosePlatform(value.index.manifests, hostPlatform(), 'x')
      else {
        checkRunnable(value.manifest, 'x')
        pairLayers(
          value.manifest,
          value.manifest.layers.map(({ digest }) => digest),
          'x',
        )
      }
    })
  },
  seeds: [manifest, index, { ...manifest, mediaType: undefined }].map((seed) =>
    Buffer.concat([Buffer.from([5]), Buffer.from(JSON.stringify(seed))]),
  ),
  words,
}

export const configurations: Target = {
  run: (input) => {
    const read = orFault(() => parseConfig(input, 'x'))
    if (!('value' in read)) return
    const again = orFault(() => parseConfig(Buffer.from(JSON.stringify(read.value)), 'x'))
    same(read, again, 'read, and written and read again')
  },
  seeds: [Buffer.from(JSON.stringify(image))],
  words,
}
