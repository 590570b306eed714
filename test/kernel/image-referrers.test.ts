import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { defaultEndpoint } from '../../src/image/endpoint.ts'
import { Http } from '../../src/image/http.ts'
import { parseReference } from '../../src/image/reference.ts'
import { Repository } from '../../src/image/registry.ts'
import { type Digest, MEDIA_TYPES } from '../../src/spec/image.ts'
import { needs } from '../lib/needs.ts'
import { sha256, TestRegistry } from '../lib/registry.ts'

needs('root')

const SUBJECT = sha256(Buffer.from('subject')) as Digest
const SIGNATURE = 'application/vnd.dev.sigstore.bundle.v0.3+json'
const path = `/v2/a/b/referrers/${SUBJECT}`

function entry(name: string, artifactType: string) {
  return {
    mediaType: MEDIA_TYPES.ociManifest,
    digest: sha256(Buffer.from(name)),
    size: name.length,
    artifactType,
    annotations: { name },
  }
}

function index(...manifests: unknown[]): string {
  return JSON.stringify({ schemaVersion: 2, mediaType: MEDIA_TYPES.ociIndex, manifests })
}

async function withRegistry(
  use: (registry: TestRegistry, repository: Repository) => Promise<void>,
): Promise<void> {
  const registry = await TestRegistry.start()
  using http = new Http()
  const reference = parseReference(`${registry.host}/a/b`)
  const endpoints = [defaultEndpoint(reference)]
  const credentials = async () => undefined
  try {
    await use(registry, new Repository({ http, reference, endpoints, credentials }))
  } finally {
    await registry.stop()
  }
}

const named = (found: readonly { annotations?: Record<string, string> }[]) =>
  found.map(({ annotations }) => annotations?.['name'])

test('referrers are listed over several pages, and those of one type where the registry filters none', () =>
  withRegistry(async (registry, repository) => {
    registry.behave = (seen, response) => {
      if (!seen.path.startsWith(path)) return false
      const isLast = seen.path.includes('last=')
      response.writeHead(200, {
        'content-type': MEDIA_TYPES.ociIndex,
        ...(isLast ? {} : { link: `<${path}?last=1>; rel="next"` }),
      })
      response.end(index(isLast ? entry('two', SIGNATURE) : entry('one', 'text/x')))
      return true
    }
    assert.equal(named(await repository.referrers(SUBJECT)), ['one', 'two'])
    assert.equal(named(await repository.referrers(SUBJECT, SIGNATURE)), ['two'])
    assert.is(registry.count(`artifactType=${encodeURIComponent(SIGNATURE)}`), 1)
  }))

test('a registry without the API is asked for the tag of the digest; without that there are none', () =>
  withRegistry(async (registry, repository) => {
    assert.equal(await repository.referrers(SUBJECT), [])
    const tag = SUBJECT.replace(':', '-')
    const document = Buffer.from(index(entry('old', SIGNATURE)))
    registry.manifest('a/b', tag, document, MEDIA_TYPES.ociIndex)
    assert.equal(named(await repository.referrers(SUBJECT, SIGNATURE)), ['old'])
    assert.equal(await repository.referrers(SUBJECT, 'text/other'), [])
  }))

const hostile: [name: string, headers: Record<string, string>, body: string, reason: RegExp][] = [
  ['pages without end', { link: `<${path}>; rel="next"` }, index(), /more than 32 pages/],
  ['a next page elsewhere', { link: '<http://127.0.0.2:1/>; rel="next"' }, index(), /not its own/],
  ['a manifest for a list', {}, '{"schemaVersion":2,"config":{},"layers":[]}', /not valid/],
  ['more than anybody can read', {}, index(...Array(1025).fill(entry('x', 'y'))), /limit is 1024/],
]
for (const [name, headers, body, reason] of hostile) {
  test(`${name} is refused as a list of referrers`, () =>
    withRegistry(async (registry, repository) => {
      registry.behave = (_, response) => {
        response.writeHead(200, { 'content-type': MEDIA_TYPES.ociIndex, ...headers }).end(body)
        return true
      }
      const failure = await repository.referrers(SUBJECT).then(() => 'none', String)
      assert.match(failure, reason)
    }))
}

test('a registry that fails is no registry without signatures', () =>
  withRegistry(async (registry, repository) => {
    registry.behave = (_, response) => {
      response.writeHead(403).end()
      return true
    }
    assert.match(await repository.referrers(SUBJECT).then(() => 'none', String), /denies referrers/)
  }))

/** Asks a mirror and then a registry, each of which fails with 403 or lists nothing. */
async function askBoth(mirrorFails: boolean, registryFails: boolean): Promise<string> {
  const [mirror, registry] = [await TestRegistry.start(), await TestRegistry.start()]
  try {
    for (const [one, fails] of [
      [mirror, mirrorFails],
      [registry, registryFails],
    ] as const) {
      one.behave = (_, response) => {
        if (fails) response.writeHead(403).end()
        return fails
      }
    }
    using http = new Http()
    const reference = parseReference(`${registry.host}/a/b`)
    const endpoints = [
      defaultEndpoint(parseReference(`${mirror.host}/a/b`)),
      defaultEndpoint(reference),
    ]
    const repository = new Repository({
      http,
      reference,
      endpoints,
      credentials: async () => undefined,
    })
    return await repository.referrers(SUBJECT).then((found) => `${found.length} found`, String)
  } finally {
    await Promise.all([mirror.stop(), registry.stop()])
  }
}

test('a registry that lists nothing is believed though its mirror fails, not the other way round', async () => {
  assert.is(await askBoth(true, false), '0 found')
  assert.is(await askBoth(false, false), '0 found')
  assert.match(await askBoth(false, true), /denies referrers/)
  assert.match(await askBoth(true, true), /denies referrers/)
})

test.run()
