import { execFileSync } from 'node:child_process'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { inspectImage, pullImage, pushImage, tagImage } from '../../src/image/index.ts'
import { readManifest } from '../../src/image/inspect.ts'
import { dockerRegistry, freePort } from '../lib/docker-registry.ts'
import { privateStore } from '../lib/image-store.ts'
import { writeLayout } from '../lib/images.ts'
import { needs } from '../lib/needs.ts'
import { testDirectory, traces } from '../lib/traces.ts'

needs('root', 'program:docker-registry', 'program:skopeo', 'program:podman')

const directory = testDirectory()
// libuv opens /dev/null for itself with a process's first socket: that is none of ours to find.
await freePort()
const clean = traces({ roots: [directory] })
const layout = join(directory, 'layout')
writeLayout(layout, [
  {
    name: 'app:1',
    layers: [
      [{ name: 'etc/one', content: 'first\n' }],
      [{ name: 'etc/two', content: 'second\n', uid: 7 }],
    ],
    config: { Cmd: ['/x'] },
  },
])
const registry = await dockerRegistry(directory, 'plain')
const { host } = registry
const SETTINGS = { certsDirectories: [], registriesPaths: [] }

function skopeo(...args: string[]): string {
  return execFileSync('skopeo', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
}

function bySkopeo(name: string, ...options: string[]): void {
  const insecure = ['--dest-tls-verify=false', '--insecure-policy']
  skopeo('copy', ...insecure, ...options, `oci:${layout}:app:1`, `docker://${host}/${name}`)
}

function digestAt(name: string): string {
  const text = skopeo('inspect', '--tls-verify=false', `docker://${host}/${name}`)
  return (JSON.parse(text) as { Digest: string }).Digest
}

/** The phases that a push goes through. */
async function phasesOf(
  store: ReturnType<typeof privateStore>,
  image: string,
  to: string,
): Promise<{ phases: string[]; digest: string }> {
  const phases = new Set<string>()
  const { digest } = await pushImage(store, image, to, {
    ...SETTINGS,
    progress: ({ phase }) => phases.add(phase),
  })
  return { phases: [...phases].sort(), digest }
}

const kinds: [kind: string, options: string[]][] = [
  ['oci', []],
  ['docker', ['--format=v2s2']],
  ['zstd', ['--dest-compress-format=zstd', '--dest-compress']],
]
for (const [kind, options] of kinds) {
  test(`an image of the kind ${kind} is pulled and pushed with the digest it had`, async () => {
    using store = privateStore()
    bySkopeo(`from/${kind}:1`, ...options)
    const { digest } = await pullImage(store, `${host}/from/${kind}:1`, SETTINGS)
    const pushed = await pushImage(
      store,
      `${host}/from/${kind}:1`,
      `${host}/to/${kind}:2`,
      SETTINGS,
    )
    assert.is(pushed.digest, digest)
    assert.is(digestAt(`to/${kind}:2`), digest)
    assert.is(pushed.name, `${host}/to/${kind}:2`)
  })
}

test('skopeo copies and podman pulls what berth pushed, with its id', async () => {
  const copied = join(directory, 'copied')
  skopeo(
    'copy',
    '--src-tls-verify=false',
    '--insecure-policy',
    `docker://${host}/to/oci:2`,
    `oci:${copied}:x`,
  )
  const own = ['--root', join(directory, 'podman'), '--runroot', join(directory, 'podman-run')]
  const podman = (...args: string[]): string =>
    execFileSync('podman', [...own, '--storage-driver', 'vfs', ...args], {
      encoding: 'utf8',
    }).trim()
  const id = podman('pull', '--quiet', '--tls-verify=false', `${host}/to/oci:2`)
  using store = privateStore()
  const pulled = await pullImage(store, `${host}/to/oci:2`, SETTINGS)
  assert.is(`sha256:${id}`, pulled.id)
  podman('rmi', '--all')
})

test('what is there is not sent again, and what another repository has is mounted', async () => {
  using store = privateStore()
  const name = `${host}/from/oci:1`
  await pullImage(store, name, SETTINGS)
  const other = await dockerRegistry(directory, 'other')
  try {
    const first = await phasesOf(store, name, `${other.host}/a/one:1`)
    assert.equal(first.phases, ['done', 'uploading', 'waiting'])
    const again = await phasesOf(store, name, `${other.host}/a/one:2`)
    assert.equal(again.phases, ['exists', 'waiting'])
    const mounted = await phasesOf(store, name, `${other.host}/b/two:1`)
    assert.equal(mounted.phases, ['mounted', 'waiting'])
    assert.is(mounted.digest, first.digest)
    using fresh = privateStore()
    const { digest } = await pullImage(fresh, `${other.host}/b/two:1`, SETTINGS)
    assert.is(digest, first.digest)
  } finally {
    await other.stop()
  }
})

test('a pushed image has its digest at the registry among its names', async () => {
  using store = privateStore()
  await pullImage(store, `${host}/from/oci:1`, SETTINGS)
  await tagImage(store, `${host}/from/oci:1`, `${host}/own/name:7`)
  const { digest, id } = await pushImage(
    store,
    `${host}/own/name:7`,
    `${host}/own/name:7`,
    SETTINGS,
  )
  const { image } = inspectImage(store, id)
  assert.ok(image.repoDigests.includes(`${host}/own/name@${digest}`))
})

test('a layer whose archive is no longer kept comes back from where the image was pulled', async () => {
  using store = privateStore()
  const { digest } = await pullImage(store, `${host}/from/oci:1`, SETTINGS)
  const { layers } = readManifest(store, digest).manifest
  for (const layer of layers) store.blobs.remove(layer.digest)
  const other = await dockerRegistry(directory, 'dropped')
  try {
    const pushed = await phasesOf(store, `${host}/from/oci:1`, `${other.host}/a/b:1`)
    assert.is(pushed.digest, digest)
    assert.ok(pushed.phases.includes('downloading'))
  } finally {
    await other.stop()
  }
})

test('a layer that can be had nowhere fails the push before the manifest is there', async () => {
  using store = privateStore()
  const lost = await dockerRegistry(directory, 'lost')
  const { id } = await pullImage(store, `${host}/from/oci:1`, SETTINGS)
  const name = `${lost.host}/a/b:1`
  await pushImage(store, id, name, SETTINGS)
  await lost.stop()
  const { image } = inspectImage(store, id)
  // What is left leads only to the registry that is gone.
  await store.catalog.remove(id, () => ({
    names: image.repoDigests.filter((text) => text.startsWith(host)),
    image: false,
  }))
  for (const layer of readManifest(store, image.manifest).manifest.layers) {
    store.blobs.remove(layer.digest)
  }
  const failure = await pushImage(store, id, `${host}/never/there:1`, SETTINGS).then(
    () => 'no failure',
    String,
  )
  assert.match(failure, /not kept here/)
  assert.throws(() => digestAt('never/there:1'))
})

test('a push to a digest, and of what is not here, is refused', async () => {
  using store = privateStore()
  const { digest } = await pullImage(store, `${host}/from/oci:1`, SETTINGS)
  const attempts: [image: string, to: string, reason: RegExp][] = [
    [`${host}/from/oci:1`, `${host}/x@${digest}`, /under a tag/],
    ['none', `${host}/x:1`, /no image none/],
  ]
  for (const [image, to, reason] of attempts) {
    const failure = await pushImage(store, image, to, SETTINGS).then(() => 'no failure', String)
    assert.match(failure, reason)
  }
})

test('nothing is left behind', async () => {
  await registry.stop()
  rmSync(directory, { recursive: true, force: true })
  await clean()
})

test.run()
