/** All of a repository, and all of an image: `pull --all-tags`. */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { MEDIA_TYPES } from '../../src/spec/image.ts'
import { berthOfFile } from '../lib/berth.ts'
import { dockerRegistry } from '../lib/docker-registry.ts'
import { writeLayout } from '../lib/images.ts'
import { needing, needs } from '../lib/needs.ts'
import { TestRegistry } from '../lib/registry.ts'
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

test('nothing is left behind', nothingIsLeft)

test.run()
