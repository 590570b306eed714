import { createReadStream, mkdirSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { FaultCode } from '../../src/base/fault.ts'
import { importImage, inspectImage, loadArchive } from '../../src/image/index.ts'
import { privateStore, storeContent } from '../lib/image-store.ts'
import { type TarEntry, tar, writeLayout } from '../lib/images.ts'
import { needs } from '../lib/needs.ts'
import { sha256 } from '../lib/registry.ts'

needs('root')

const LAYER = tar([{ name: 'file', content: 'content\n' }])
const CONFIG = JSON.stringify({
  architecture: process.arch === 'x64' ? 'amd64' : process.arch,
  os: 'linux',
  rootfs: { type: 'layers', diff_ids: [sha256(LAYER)] },
})

function dockerArchive(
  entries: readonly TarEntry[],
  manifest: unknown = [{ Config: 'config.json', RepoTags: ['x:1'], Layers: ['a/layer.tar'] }],
): Buffer {
  return tar([
    ...entries,
    { name: 'config.json', content: CONFIG },
    { name: 'manifest.json', content: JSON.stringify(manifest) },
  ])
}

const good: [name: string, archive: Buffer][] = [
  ['plain', dockerArchive([{ name: 'a/layer.tar', content: LAYER }])],
  ['compressed', gzipSync(dockerArchive([{ name: 'a/layer.tar', content: LAYER }]))],
  ['with a compressed layer', dockerArchive([{ name: 'a/layer.tar', content: gzipSync(LAYER) }])],
  [
    'with the symbolic links of docker save',
    dockerArchive([
      { name: 'b/layer.tar', content: LAYER },
      { name: 'a/', type: 'directory' },
      { name: 'a/layer.tar', type: 'symlink', to: '../b/layer.tar' },
    ]),
  ],
  [
    'with a hard link',
    dockerArchive([
      { name: './b.tar', content: LAYER },
      { name: './a/layer.tar', type: 'hardlink', to: './b.tar' },
    ]),
  ],
]
for (const [name, archive] of good) {
  for (const from of ['a file', 'a stream'] as const) {
    test(`a docker-archive ${name} loads from ${from}`, async () => {
      using store = privateStore()
      const path = join(store.directory, 'x.tar')
      writeFileSync(path, archive)
      const loaded = await loadArchive(store, from === 'a file' ? path : createReadStream(path))
      assert.equal(loaded, [{ id: sha256(Buffer.from(CONFIG)), names: ['docker.io/library/x:1'] }])
      assert.is(inspectImage(store, 'x:1').image.diffIds[0], sha256(LAYER))
    })
  }
}

const layer: TarEntry = { name: 'a/layer.tar', content: LAYER }
const cut = dockerArchive([layer])
const bad: [name: string, archive: Buffer, code: FaultCode, reason: RegExp][] = [
  [
    'an entry that climbs out',
    dockerArchive([layer, { name: '../../etc/cron.d/x', content: 'x' }]),
    'INVALID_ARGUMENT',
    /leads out/,
  ],
  [
    'a layer that is a link out',
    dockerArchive([{ name: 'a/layer.tar', type: 'symlink', to: '../../etc/passwd' }]),
    'INVALID_ARGUMENT',
    /leads out/,
  ],
  [
    'a layer that is a link to an absolute path',
    dockerArchive([{ name: 'a/layer.tar', type: 'symlink', to: '/etc/passwd' }]),
    'NOT_FOUND',
    /not complete/,
  ],
  [
    'a layer that links to itself',
    dockerArchive([{ name: 'a/layer.tar', type: 'symlink', to: 'layer.tar' }]),
    'INVALID_ARGUMENT',
    /chain of links/,
  ],
  [
    'a hard link out',
    dockerArchive([layer, { name: 'b', type: 'hardlink', to: '../x' }]),
    'INVALID_ARGUMENT',
    /leads out/,
  ],
  [
    'a manifest that names a layer outside',
    dockerArchive([layer], [{ Config: 'config.json', Layers: ['../../etc/passwd'] }]),
    'INVALID_ARGUMENT',
    /leads out/,
  ],
  [
    'a device',
    dockerArchive([layer, { name: 'd', type: 'char', major: 1, minor: 3 }]),
    'INVALID_ARGUMENT',
    /no file, folder or link/,
  ],
  [
    'a fifo',
    dockerArchive([layer, { name: 'd', type: 'fifo' }]),
    'INVALID_ARGUMENT',
    /no file, folder or link/,
  ],
  ['one name twice', dockerArchive([layer, layer]), 'INVALID_ARGUMENT', /twice/],
  [
    'one name twice in two spellings',
    dockerArchive([layer, { ...layer, name: './a//layer.tar' }]),
    'INVALID_ARGUMENT',
    /twice/,
  ],
  ['a missing layer', dockerArchive([]), 'NOT_FOUND', /not complete/],
  [
    'another layer than its diff id',
    dockerArchive([{ ...layer, content: tar([{ name: 'other' }]) }]),
    'DATA_LOSS',
    /digest/,
  ],
  [
    'another compressed layer than its diff id',
    dockerArchive([{ ...layer, content: gzipSync(tar([{ name: 'other' }])) }]),
    'DATA_LOSS',
    /diff id/,
  ],
  [
    'fewer layers than diff ids',
    dockerArchive([layer], [{ Config: 'config.json', Layers: [] }]),
    'INVALID_ARGUMENT',
    /diff ids/,
  ],
  ['a manifest that is no list', dockerArchive([layer], {}), 'INVALID_ARGUMENT', /must be a list/],
  [
    'tags that are no text',
    dockerArchive([layer], [{ Config: 'config.json', RepoTags: [1], Layers: ['a/layer.tar'] }]),
    'INVALID_ARGUMENT',
    /list of text/,
  ],
  [
    'a tag that is no name',
    dockerArchive(
      [layer],
      [{ Config: 'config.json', RepoTags: ['../x:1'], Layers: ['a/layer.tar'] }],
    ),
    'INVALID_ARGUMENT',
    /image name/,
  ],
  ['a cut-off end', cut.subarray(0, cut.length - 1500), 'DATA_LOSS', /cut off/],
  ['a cut-off gzip stream', gzipSync(cut).subarray(0, 300), 'DATA_LOSS', /gzip/],
  [
    'a size beyond its end',
    dockerArchive([{ ...layer, pax: { size: '99999999999' } }]),
    'DATA_LOSS',
    /cut off/,
  ],
  [
    'a global header that renames all',
    dockerArchive([layer, { name: 'x', pax: {} }]).fill('g', 156, 157),
    'DATA_LOSS',
    /checksum/,
  ],
  ['bzip2', Buffer.from('BZh91AY&SY'), 'UNIMPLEMENTED', /bzip2/],
  ['nothing', Buffer.alloc(0), 'INVALID_ARGUMENT', /empty/],
  ['noise', Buffer.alloc(4096, 'n'), 'DATA_LOSS', /archive is damaged/],
  ['only zeros', Buffer.alloc(10_240), 'INVALID_ARGUMENT', /empty/],
]
for (const [name, archive, code, reason] of bad) {
  test(`an archive with ${name} is refused and leaves nothing`, async () => {
    using store = privateStore()
    const path = join(store.directory, 'x.tar')
    writeFileSync(path, archive)
    for (const source of [path, createReadStream(path)]) {
      try {
        await loadArchive(store, source)
        assert.unreachable('it was accepted')
      } catch (error) {
        assert.is((error as { code?: string }).code, code, String(error))
        assert.match(String(error), reason)
      }
    }
    assert.equal(storeContent(store), [])
  })
}

test('an archive tags nothing but what it declares, and an existing name moves only then', async () => {
  using store = privateStore()
  const path = join(store.directory, 'x.tar')
  writeFileSync(path, dockerArchive([layer]))
  await loadArchive(store, path, { name: 'mine:1' })
  assert.equal(inspectImage(store, 'mine:1').image.names, ['docker.io/library/mine:1'])
})

test('of an archive whose second image is bad no image and no name is there', async () => {
  using store = privateStore()
  const path = join(store.directory, 'x.tar')
  const entry = { Config: 'config.json', RepoTags: ['x:1'], Layers: ['a/layer.tar'] }
  const other = { Config: 'other.json', RepoTags: ['y:1'], Layers: ['b/layer.tar'] }
  const lie = CONFIG.replace(sha256(LAYER), `sha256:${'3'.repeat(64)}`)
  writeFileSync(
    path,
    dockerArchive(
      [layer, { ...layer, name: 'b/layer.tar' }, { name: 'other.json', content: lie }],
      [entry, other],
    ),
  )
  try {
    await loadArchive(store, path)
    assert.unreachable()
  } catch (error) {
    assert.match(String(error), /digest/)
  }
  assert.equal(store.catalog.list(), [])
})

function layoutIn(directory: string): string {
  const path = join(directory, 'layout')
  writeLayout(path, [{ name: 'q.io/x:1', layers: [[{ name: 'file', content: 'x' }]] }])
  return path
}

test('a layout folder loads, with several images and their names', async () => {
  using store = privateStore()
  const path = join(store.directory, 'layout')
  writeLayout(path, [
    { name: 'q.io/x:1', layers: [[{ name: 'file', content: 'x' }]] },
    { name: 'bare', layers: [[{ name: 'file', content: 'y' }]], compression: 'none' },
    { name: 'latest', layers: [[{ name: 'file', content: 'z' }]] },
  ])
  const loaded = await loadArchive(store, path)
  assert.equal(
    loaded.map(({ names }) => names),
    [['q.io/x:1'], ['localhost/bare:latest'], []],
  )
})

test('a layout whose blob is a link to a device is refused', async () => {
  using store = privateStore()
  const path = layoutIn(store.directory)
  const { manifests } = JSON.parse(
    (await import('node:fs')).readFileSync(join(path, 'index.json'), 'utf8'),
  ) as { manifests: { digest: string }[] }
  const blob = join(path, 'blobs', (manifests[0]?.digest ?? '').replace(':', '/'))
  ;(await import('node:fs')).rmSync(blob)
  symlinkSync('/dev/zero', blob)
  try {
    await loadArchive(store, path)
    assert.unreachable()
  } catch (error) {
    assert.match(String(error), /is no file/)
  }
})

const HUGE_BYTES = 10 * 1024 ** 3

test('an index.json of 10 GB is not read (CVE-2023-25153)', async () => {
  using store = privateStore()
  const path = layoutIn(store.directory)
  truncateSync(join(path, 'index.json'), HUGE_BYTES)
  try {
    await loadArchive(store, path)
    assert.unreachable()
  } catch (error) {
    assert.is((error as { code?: string }).code, 'RESOURCE_EXHAUSTED')
    assert.match(String(error), /index\.json .* limit/)
  }
})

test('a manifest.json of 10 GB in an archive is not read', async () => {
  using store = privateStore()
  const path = join(store.directory, 'x.tar')
  writeFileSync(path, tar([{ name: 'manifest.json', pax: { size: String(HUGE_BYTES) } }]))
  truncateSync(path, HUGE_BYTES + 4096)
  try {
    await loadArchive(store, path)
    assert.unreachable()
  } catch (error) {
    assert.is((error as { code?: string }).code, 'RESOURCE_EXHAUSTED')
    assert.match(String(error), /manifest\.json .* limit/)
  }
})

test('an archive of very many entries is not listed to its end', async () => {
  using store = privateStore()
  const path = join(store.directory, 'x.tar')
  const entry = tar([{ name: 'd/', type: 'directory' }]).subarray(0, 512)
  writeFileSync(path, Buffer.concat(Array.from({ length: 70_000 }, () => entry)))
  try {
    await loadArchive(store, path)
    assert.unreachable()
  } catch (error) {
    assert.is((error as { code?: string }).code, 'RESOURCE_EXHAUSTED')
    assert.match(String(error), /more than 65536 entries/)
  }
})

test('an empty folder is no image', async () => {
  using store = privateStore()
  const path = join(store.directory, 'empty')
  mkdirSync(path)
  try {
    await loadArchive(store, path)
    assert.unreachable()
  } catch (error) {
    assert.match(String(error), /no image archive/)
  }
})

for (const [kind, pack] of [
  ['plain', (b: Buffer) => b],
  ['gzip', (b: Buffer) => gzipSync(b)],
] as const) {
  test(`a ${kind} root file system imports from a file and from a stream to the same id`, async () => {
    using store = privateStore()
    const path = join(store.directory, 'root.tar')
    writeFileSync(path, pack(LAYER))
    const options = { name: 'root:1', created: '2026-01-01T00:00:00Z', config: { Cmd: ['/x'] } }
    const a = await importImage(store, path, options)
    const b = await importImage(store, createReadStream(path), options)
    assert.equal(a, b)
    const { image, config } = inspectImage(store, 'root:1')
    assert.equal(image.diffIds, [sha256(LAYER)])
    assert.equal(config.config?.Cmd, ['/x'])
  })
}

test('what is no tar imports to nothing', async () => {
  using store = privateStore()
  const path = join(store.directory, 'root.tar')
  writeFileSync(path, 'no archive at all, but long enough to be read as one'.repeat(40))
  try {
    await importImage(store, path, { name: 'x', created: '' })
    assert.unreachable()
  } catch (error) {
    assert.match(String(error), /archive/)
  }
  assert.equal(storeContent(store), [])
})

test.run()
