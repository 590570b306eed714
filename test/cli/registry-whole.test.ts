/** All of a repository, and all of an image: `pull --all-tags`, `push --all-platforms`. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { machinePlatform } from '../../src/image/cpu.ts'
import { MEDIA_TYPES } from '../../src/spec/image.ts'
import { berthOfFile } from '../lib/berth.ts'
import { dockerRegistry } from '../lib/docker-registry.ts'
import { writeLayout } from '../lib/images.ts'
import { needing, needs } from '../lib/needs.ts'
import { sha256, TestRegistry } from '../lib/registry.ts'
import { pushImage } from '../lib/registry-image.ts'

needs('root')

const { berth, nothingIsLeft } = berthOfFile()
const here = (name: string): string => join(berth.directory, name)

interface Pulled {
  readonly id: string
  readonly name: string
}

async function withRegistry(use: (registry: TestRegistry) => Promise<void>): Promise<void> {
  const registry = await TestRegistry.start()
  try {
    await use(registry)
  } finally {
    await registry.stop()
    await berth.ok(['image', 'prune', '-a', '-f'])
  }
}

/** The registry lists these tags, so many a page. */
function listTags(registry: TestRegistry, tags: readonly string[], perPage = 2): void {
  registry.behave = ({ path }, response) => {
    const url = new URL(path, registry.url)
    if (!url.pathname.endsWith('/tags/list')) return false
    const from = Number(url.searchParams.get('from') ?? 0)
    const next = from + perPage
    if (next < tags.length) response.setHeader('link', `<?from=${next}>; rel="next"`)
    response.end(JSON.stringify({ name: 'app', tags: tags.slice(from, next) }))
    return true
  }
}

test('all tags of all pages are pulled; what is no image is told and left', () =>
  withRegistry(async (registry) => {
    const images = ['1', '2', '3'].map((tag) =>
      pushImage(registry, 'app', tag, { layers: [[{ name: 'tag', content: tag }]] }),
    )
    const empty = {
      mediaType: 'application/vnd.oci.empty.v1+json',
      ...registry.blob('app', Buffer.from('{}')),
    }
    const artifact = {
      schemaVersion: 2,
      mediaType: MEDIA_TYPES.ociManifest,
      artifactType: 'application/x.signature',
      config: empty,
      layers: [empty],
    }
    registry.manifest('app', 'sha256-1.sig', artifact, MEDIA_TYPES.ociManifest)
    listTags(registry, ['1', '2', 'sha256-1.sig', '3'])
    const name = `${registry.host}/app`
    const all = await berth.run(['pull', '-q', '--all-tags', '--format', 'json', name])
    assert.is(all.code, 0, all.stderr)
    assert.equal(
      (JSON.parse(all.stdout) as Pulled[]).map((pulled) => [pulled.name, pulled.id]),
      images.map((image) => [image.name, image.id]),
    )
    assert.match(all.stderr, /sha256-1\.sig is left out: /)
    // One that fails does not keep the others.
    listTags(registry, ['1', 'none', '3'])
    const some = await berth.run(['pull', '-q', '-a', name])
    assert.is(some.code, 125)
    assert.is(some.stdout, `${images[0]?.id}\n${images[2]?.id}\n`)
    assert.match(some.stderr, /app:none/)
  }))

test('tags that are none, pages without end and names with a tag are refused', () =>
  withRegistry(async (registry) => {
    const name = `${registry.host}/app`
    await berth.refused(['pull', '-a', `${name}:1`], /--all-tags takes a repository without tag/)
    await berth.refused(['pull', '-a', name], /the tags of .*app/)
    listTags(registry, ['1', '../../x'])
    await berth.refused(['pull', '-a', name], /x/)
    listTags(registry, [])
    await berth.refused(['pull', '-a', name], /has no tags/)
    let pages = 0
    registry.behave = (_, response) => {
      response.setHeader('link', `<?from=${pages++}>; rel="next"`)
      response.end('{"tags":["1"]}')
      return true
    }
    await berth.refused(['pull', '-a', name], /more than 10000 tags, or more than 1000 pages/)
    assert.is(await berth.ok(['images', '-q']), '')
  }))

needing(test, 'program:docker-registry')(
  'all tags go to a docker-registry and come back',
  async () => {
    mkdirSync(here('registry'))
    const registry = await dockerRegistry(here('registry'), 'whole')
    try {
      const name = `${registry.host}/team/app`
      writeLayout(
        here('layout'),
        ['1', '2'].map((tag) => ({
          name: `${name}:${tag}`,
          layers: [[{ name: 'tag', content: tag }]],
        })),
      )
      await berth.ok(['load', '-q', '-i', here('layout')])
      await berth.ok(['push', '-q', '--all-tags', name])
      const ids = (await berth.ok(['images', '-q', '--no-trunc'])).split('\n').sort()
      await berth.ok(['image', 'prune', '-a', '-f'])
      const pulled = await berth.ok(['pull', '-q', '-a', name])
      assert.equal(pulled.split('\n').sort(), ids)
    } finally {
      await registry.stop()
    }
  },
)

/** An index with an image for this machine and another, with `nested` in an index of its own, and an attestation; its digest. */
function pushWholeIndex(registry: TestRegistry, nested: boolean): { name: string; digest: string } {
  const own = machinePlatform().architecture
  const other = own === 'arm64' ? 'amd64' : 'arm64'
  const entry = (tag: string, architecture: string) => {
    const { digest } = pushImage(registry, 'app', tag, {
      layers: [[{ name: 'tag', content: tag }], [{ name: 'big', content: Buffer.alloc(50_000) }]],
    })
    const { length } = registry.content(`/v2/app/manifests/${digest}`)
    const platform = { os: 'linux', architecture }
    return { mediaType: MEDIA_TYPES.ociManifest, digest, size: length, platform }
  }
  const blob = {
    mediaType: 'application/vnd.in-toto+json',
    ...registry.blob('app', Buffer.from('{}')),
  }
  const attestation = registry.manifest(
    'app',
    'attestation',
    { schemaVersion: 2, mediaType: MEDIA_TYPES.ociManifest, config: blob, layers: [blob] },
    MEDIA_TYPES.ociManifest,
  )
  const index = (tag: string, manifests: object[]) => {
    const document = { schemaVersion: 2, mediaType: MEDIA_TYPES.ociIndex, manifests }
    return registry.manifest('app', tag, document, MEDIA_TYPES.ociIndex)
  }
  const foreign = entry('other', other)
  const inner = nested ? index('inner', [foreign]) : foreign
  const unknown = { os: 'unknown', architecture: 'unknown' }
  const { digest } = index('whole', [
    entry('own', own),
    { ...inner, platform: { os: 'linux', architecture: other } },
    { ...attestation, platform: unknown },
  ])
  return { name: `${registry.host}/app:whole`, digest }
}

needing(
  test,
  'program:docker-registry',
  'program:skopeo',
)('a whole index goes to another registry, with all digests, also of what is not here', () =>
  withRegistry(async (registry) => {
    const { name, digest } = pushWholeIndex(registry, false)
    await berth.ok(['pull', '-q', name])
    mkdirSync(here('registry-2'))
    const to = await dockerRegistry(here('registry-2'), 'index')
    try {
      const there = `${to.host}/copy:1`
      const blobs = () => readdirSync(join(berth.root, 'images/blobs/sha256')).sort()
      const before = blobs()
      await berth.ok(['push', '-q', '--all-platforms', name, there])
      const raw = execFileSync('skopeo', [
        ...['inspect', '--raw', '--tls-verify=false', `docker://${there}`],
      ])
      assert.is(sha256(raw), digest)
      const copy = ['copy', '-q', '--all', '--preserve-digests', '--src-tls-verify=false']
      execFileSync('skopeo', [...copy, `docker://${there}`, `oci:${here('copied')}:x`])
      // What it fetched for that is nobody's: it went with the collection after the command.
      assert.equal(blobs(), before)
      const asked = registry.seen.length
      await berth.ok(['push', '-q', '--all-platforms', name, `${to.host}/copy:2`])
      assert.ok(registry.seen.slice(asked).every(({ path }) => !path.includes('/blobs/')))
    } finally {
      await to.stop()
    }
  }),
)

test('a whole index is pushed whole or not at all, and only where there is one', () =>
  withRegistry(async (registry) => {
    const { name, digest } = pushWholeIndex(registry, true)
    await berth.ok(['pull', '-q', name])
    await berth.refused(
      ['push', '-q', '--all-platforms', `${registry.host}/none:1`],
      /there is no image/,
    )
    const single = pushImage(registry, 'single', '1', { layers: [[{ name: 'a', content: 'a' }]] })
    await berth.ok(['pull', '-q', single.name])
    await berth.refused(
      ['push', '-q', '--all-platforms', single.name],
      /was not chosen from an index/,
    )
    const to = await TestRegistry.start()
    try {
      await berth.ok(['push', '-q', '--all-platforms', name, `${to.host}/whole:1`])
      assert.is(sha256(to.content('/v2/whole/manifests/1')), digest)
      registry.behave = (_, response) => {
        response.writeHead(404).end()
        return true
      }
      await berth.refused(
        ['push', '-q', '--all-platforms', name, `${to.host}/copy:1`],
        /manifest sha256:[0-9a-f]{64} of the index is not here, nor there: 127/,
      )
      assert.not.ok(to.seen.some(({ path }) => path.includes('/copy/manifests/1')))
    } finally {
      await to.stop()
    }
  }))

test('nothing is left behind', nothingIsLeft)

test.run()
