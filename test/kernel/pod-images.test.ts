import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Fault } from '../../src/base/fault.ts'
import { openImages } from '../../src/engine/images.ts'
import { holdContent } from '../../src/image/store.ts'
import { overlayMount } from '../../src/kernel/mount-api.ts'
import type { PullRequest } from '../../src/pod/image-pull.ts'
import * as images from '../../src/pod/images.ts'
import type { Digest } from '../../src/spec/image.ts'
import { berthOfFile } from '../lib/berth.ts'
import { engineOf } from '../lib/engine.ts'
import { eventually } from '../lib/eventually.ts'
import type { TarEntry } from '../lib/images.ts'
import { needs } from '../lib/needs.ts'
import { TestRegistry } from '../lib/registry.ts'
import { type PushedImage, pushImage } from '../lib/registry-image.ts'

needs('root', 'overlay')

// libuv opens /dev/null for itself with a process's first socket: that is none of ours to find.
await (await TestRegistry.start()).stop()
const { berth, nothingIsLeft } = berthOfFile()
const warnings: string[] = []
const engine = engineOf(berth, warnings)
const store = openImages(engine)
// No login of this machine's user is part of the test; REGISTRY_AUTH_FILE is set where one is.
process.env['REGISTRY_AUTH_FILE'] = join(berth.directory, 'auth.json')
process.env['DOCKER_CONFIG'] = join(berth.directory, 'docker')
process.env['XDG_CONFIG_HOME'] = join(berth.directory, 'config')
process.env['XDG_RUNTIME_DIR'] = join(berth.directory, 'runtime')

/** A pull on a busy machine. */
const PATIENCE = { withinMs: 60_000 }
const TIMEOUTS = { connectMs: 5000, answerMs: 60_000, stallMs: 60_000 }
const BASE: TarEntry[] = [
  { name: 'etc/', type: 'directory', mode: 0o711 },
  { name: 'etc/base', content: Buffer.alloc(400_000, 'b') },
]

function pull(name: string, request: PullRequest = {}): Promise<string> {
  return images.pullImage(engine, name, {
    ...request,
    registries: { certsDirectories: [], timeouts: TIMEOUTS },
  })
}

/** A registry for one test, with a fresh store. */
async function withRegistry(use: (registry: TestRegistry) => Promise<void>): Promise<void> {
  const registry = await TestRegistry.start()
  try {
    for (const { id } of images.listImages(engine)) await images.removeImage(engine, id)
    warnings.length = 0
    await use(registry)
  } finally {
    await registry.stop()
    rmSync(join(engine.root, 'pods'), { recursive: true, force: true })
  }
}

function push(registry: TestRegistry, repository: string, extra: TarEntry[] = []): PushedImage {
  return pushImage(registry, repository, '1', {
    layers: [
      BASE,
      [{ name: `etc/${repository.replaceAll('/', '-')}`, content: repository }, ...extra],
    ],
    config: { User: '1000:50' },
    annotations: { 'org.example': 'yes' },
  })
}

async function fault(work: Promise<unknown>, code: string, reason: RegExp): Promise<void> {
  try {
    await work
  } catch (error) {
    assert.is((error as Fault).code, code, String(error))
    assert.match(String(error), reason)
    return
  }
  assert.unreachable('it succeeded')
}

const blobGets = (registry: TestRegistry, digest = '/blobs/') =>
  registry.seen.filter(({ path }) => path.includes('/blobs/') && path.includes(digest)).length

/** Blobs that hold this digest wait until `open` is called. */
function gate(
  registry: TestRegistry,
  digest: string,
): { open: () => void; reached: () => boolean } {
  let isOpen = false
  let isReached = false
  const waiting: (() => void)[] = []
  registry.behave = (seen, response) => {
    if (isOpen || !seen.path.includes(digest)) return false
    isReached = true
    // Asked again by itself: the answer then is the registry's own.
    waiting.push(() => response.writeHead(307, { location: seen.path }).end())
    return true
  }
  return {
    reached: () => isReached,
    open: () => {
      isOpen = true
      for (const go of waiting) go()
    },
  }
}

test('an image is pulled once and shown with one id everywhere', () =>
  withRegistry(async (registry) => {
    const image = push(registry, 'team/app')
    assert.is(await pull(image.name), image.id)
    const [only, ...others] = images.listImages(engine)
    assert.equal(others, [])
    assert.is(only?.id, image.id)
    assert.equal(only?.repoTags, [image.name])
    assert.equal(only?.repoDigests, [`${registry.host}/team/app@${image.digest}`])
    assert.is(only?.uid, 1000)
    assert.is(only?.username, '')
    assert.is(only?.pinned, false)
    // Blobs and unpacked layers both take room.
    assert.ok((only?.sizeBytes ?? 0) > 800_000, String(only?.sizeBytes))
    assert.equal(warnings, [])
  }))

test('without keep_blobs the archives go, of pulls at once too, and a proof that fails is told once', () =>
  withRegistry(async (registry) => {
    const names = ['one', 'two', 'three'].map((name) => push(registry, name).name)
    await Promise.all(names.map((name) => pull(name, { keepBlobs: false })))
    const layers = () =>
      [...store.blobs.list()].filter(({ size }) => size > 3000).map(({ digest }) => digest)
    await eventually('the archives are gone', () => layers().length === 0, PATIENCE)
    assert.equal(warnings, [])
    const bad = push(registry, 'bad', [{ name: 'big', content: Buffer.alloc(9000) }])
    await pull(bad.name)
    const [kept] = layers() as [Digest]
    writeFileSync(store.blobs.path(kept), 'no archive')
    for (let i = 0; i < 3; i++) await pull(push(registry, `n${i}`).name, { keepBlobs: false })
    await eventually('it is told', () => warnings.length > 0, PATIENCE)
    assert.equal(warnings.length, 1)
    assert.match(warnings.join(), /the archive of layer [0-9a-f]{12} stays/)
    assert.ok(store.blobs.has(kept))
  }))

test('its status is found by every kind of reference, and is the same by all', () =>
  withRegistry(async (registry) => {
    const { name, id, digest } = push(registry, 'team/app')
    await pull(name)
    const repository = name.slice(0, name.lastIndexOf(':'))
    const status = images.imageStatus(engine, name, { verbose: true })
    const info = JSON.parse(status?.info['info'] ?? '{}') as {
      chainID: string
      imageSpec: { config: { User: string } }
    }
    assert.match(info.chainID, /^sha256:/)
    assert.is(info.imageSpec.config.User, '1000:50')
    assert.equal(status?.annotations, { 'org.example': 'yes' })
    for (const ref of [
      id,
      id.slice(7),
      id.slice(7, 20),
      `sha256:${id.slice(7, 20)}`,
      `${repository}@${digest}`,
      `${name}@${digest}`,
    ]) {
      assert.equal(images.imageStatus(engine, ref, { verbose: true }), status, ref)
    }
    assert.equal(images.listImages(engine, { image: name }), images.listImages(engine))
    for (const ref of [`${repository}:2`, 'nginx', `sha256:${'0'.repeat(64)}`, '0'.repeat(64)]) {
      assert.is(images.imageStatus(engine, ref), undefined, ref)
      assert.equal(images.listImages(engine, { image: ref }), [])
    }
    assert.throws(() => images.imageStatus(engine, 'Not A Name'), /not an image name/)
  }))

test('the login of the request is used, and a wrong or missing one refused', () =>
  withRegistry(async (registry) => {
    const { name, id } = push(registry, 'secret/app')
    for (const kind of ['basic', 'bearer'] as const) {
      registry.login = { kind, username: 'u', password: 'p' }
      await fault(pull(name), 'UNAUTHENTICATED', /login|log in/)
      await fault(pull(name, { auth: { username: 'u', password: 'no' } }), 'UNAUTHENTICATED', /./)
      const auth = { auth: Buffer.from('u:p').toString('base64'), serverAddress: registry.host }
      await fault(pull(name, { auth: { ...auth, serverAddress: 'q.io' } }), 'UNAUTHENTICATED', /./)
      assert.equal(images.listImages(engine), [])
      assert.is(await pull(name, { auth }), id)
      // The layers are here now, and still it is asked who pulls.
      await fault(pull(name, { auth: { username: 'u', password: 'no' } }), 'UNAUTHENTICATED', /./)
      await images.removeImage(engine, id)
    }
  }))

test("where the request's login is refused, the node's own is tried", () =>
  withRegistry(async (registry) => {
    const { name, id } = push(registry, 'secret/app')
    registry.login = { kind: 'basic', username: 'node', password: 'p' }
    const file = process.env['REGISTRY_AUTH_FILE'] ?? ''
    const auth = Buffer.from('node:p').toString('base64')
    writeFileSync(file, JSON.stringify({ auths: { [registry.host]: { auth } } }))
    try {
      assert.is(await pull(name, { auth: { username: 'u', password: 'no' } }), id)
      const seen = registry.seen.flatMap(({ authorization }) => authorization ?? [])
      assert.is(seen[0], `Basic ${Buffer.from('u:no').toString('base64')}`)
      registry.login = { kind: 'basic', username: 'other', password: 'p' }
      await fault(
        pull(name, { auth: { username: 'u', password: 'no' } }),
        'UNAUTHENTICATED',
        /valid login/,
      )
      assert.match(warnings.join('\n'), /with the node's own login/)
    } finally {
      rmSync(file, { force: true })
    }
  }))

test('pulls of one image at once are one transfer', () =>
  withRegistry(async (registry) => {
    const { name, id, layers } = push(registry, 'team/app')
    const before = images.imageMetrics(engine)
    const { open, reached } = gate(registry, layers[1] ?? '')
    const pulls = Array.from({ length: 20 }, () => pull(name))
    await eventually('the layer is asked for', reached, PATIENCE)
    assert.equal(
      images.pullsUnderWay(engine).map((p) => [p.name, p.callers, p.isQueued]),
      [[name, 20, false]],
    )
    open()
    assert.equal([...new Set(await Promise.all(pulls))], [id])
    assert.equal(images.pullsUnderWay(engine), [])
    assert.is(registry.count('/manifests/'), 1)
    // Configuration and two layers, one of them twice through the gate.
    assert.is(blobGets(registry), 4)
    const after = images.imageMetrics(engine)
    assert.is(after.asked - before.asked, 20)
    assert.is(after.joined - before.joined, 19)
    assert.is(after.succeeded - before.succeeded, 1)
    assert.ok(after.fetchedBytes - before.fetchedBytes > 400_000)
  }))

test('images pulled at once fetch the layer that they share once', () =>
  withRegistry(async (registry) => {
    const pushed = ['a', 'b', 'c', 'd', 'e', 'f'].map((each) => push(registry, each))
    const [shared = ''] = pushed[0]?.layers ?? []
    await Promise.all(pushed.map(({ name }) => pull(name)))
    assert.is(blobGets(registry, shared), 1)
    assert.is(images.listImages(engine).length, 6)
  }))

test('a pull of the command line beside fetches nothing that this process is fetching', () =>
  withRegistry(async (registry) => {
    const { name, id, layers } = push(registry, 'team/app')
    const { open, reached } = gate(registry, layers[0] ?? '')
    const ours = pull(name)
    await eventually('the layer is asked for', reached, PATIENCE)
    const theirs = berth.ok(['pull', name])
    await eventually(
      'the other has the manifest',
      () => registry.count('/manifests/') === 2,
      PATIENCE,
    )
    open()
    assert.is(await ours, id)
    await theirs
    // Once at the gate and once behind it.
    assert.is(blobGets(registry, layers[0]), 2)
    assert.is(blobGets(registry, layers[1]), 1)
    assert.is(images.listImages(engine).length, 1)
  }))

test('of many transfers at once some wait their turn, and a caller may leave the queue', () =>
  withRegistry(async (registry) => {
    const pushed = Array.from({ length: 20 }, (_, i) => push(registry, `many/${i}`))
    const { open } = gate(registry, '/manifests/')
    const leaver = new AbortController()
    const pulls = pushed.map(({ name }, i) => pull(name, i === 18 ? { signal: leaver.signal } : {}))
    await eventually('16 are at work', () => registry.count('/manifests/') === 16, PATIENCE)
    assert.is(images.pullsUnderWay(engine).filter(({ isQueued }) => isQueued).length, 4)
    leaver.abort(new Fault('DEADLINE_EXCEEDED', 'gone'))
    open()
    const ended = await Promise.allSettled(pulls)
    assert.equal(
      ended.flatMap(({ status }, i) => (status === 'rejected' ? [i] : [])),
      [18],
    )
    assert.is(registry.count('many/18/'), 0)
  }))

test('another login is another transfer', () =>
  withRegistry(async (registry) => {
    const { name, id, layers } = push(registry, 'secret/app')
    registry.login = { kind: 'basic', username: 'u', password: 'p' }
    const { open, reached } = gate(registry, layers[0] ?? '')
    const right = pull(name, { auth: { username: 'u', password: 'p' } })
    await eventually('the layer is asked for', reached, PATIENCE)
    await fault(pull(name, { auth: { username: 'u', password: 'no' } }), 'UNAUTHENTICATED', /./)
    await fault(pull(name), 'UNAUTHENTICATED', /./)
    open()
    assert.is(await right, id)
  }))

test('one of two callers leaves: the other gets the image by the same transfer', () =>
  withRegistry(async (registry) => {
    const { name, id, layers } = push(registry, 'team/app')
    const { open, reached } = gate(registry, layers[0] ?? '')
    const leaver = new AbortController()
    const left = pull(name, { signal: leaver.signal })
    const stays = pull(name, { signal: new AbortController().signal })
    await eventually('the layer is asked for', reached, PATIENCE)
    leaver.abort(new Fault('DEADLINE_EXCEEDED', 'the client has gone'))
    await fault(left, 'DEADLINE_EXCEEDED', /client has gone/)
    open()
    assert.is(await stays, id)
    assert.is(registry.count('/manifests/'), 1)
  }))

test('with the last caller the transfer ends, and the next pull takes up what is there', () =>
  withRegistry(async (registry) => {
    const { name, id, layers } = push(registry, 'team/app')
    const before = images.imageMetrics(engine)
    const caller = new AbortController()
    const { open, reached } = gate(registry, layers[1] ?? '')
    const left = pull(name, { signal: caller.signal })
    await eventually('the layer is asked for', reached, PATIENCE)
    await eventually('the base layer is here', () => store.layers.list().length === 1, PATIENCE)
    caller.abort(new Fault('DEADLINE_EXCEEDED', 'the client has gone'))
    await fault(left, 'DEADLINE_EXCEEDED', /client has gone/)
    assert.equal(images.pullsUnderWay(engine), [])
    assert.is(images.imageMetrics(engine).cancelled - before.cancelled, 1)
    assert.equal(images.listImages(engine), [])
    open()
    assert.is(await pull(name), id)
    assert.is(blobGets(registry, layers[0]), 1)
  }))

test('a caller that has gone before asks for nothing', () =>
  withRegistry(async (registry) => {
    const { name } = push(registry, 'team/app')
    await fault(
      pull(name, { signal: AbortSignal.abort(new Fault('DEADLINE_EXCEEDED', 'gone')) }),
      'DEADLINE_EXCEEDED',
      /gone/,
    )
    assert.is(registry.seen.length, 0)
  }))

test('aborted at any point, a pull leaves no image and no part of a layer, and the next one succeeds', () =>
  withRegistry(async (registry) => {
    const { name, id } = push(registry, 'team/app')
    for (let requests = 1; requests <= 4; requests++) {
      const caller = new AbortController()
      registry.seen.length = 0
      registry.behave = (_, response) => {
        if (registry.seen.length < requests) return false
        response.writeHead(200, { 'content-length': 1000 }).write('x')
        setImmediate(() => caller.abort(new Fault('DEADLINE_EXCEEDED', 'gone')))
        return true
      }
      await fault(pull(name, { signal: caller.signal }), 'DEADLINE_EXCEEDED', /gone/)
    }
    assert.equal(images.listImages(engine), [])
    registry.behave = () => false
    assert.is(await pull(name), id)
    await eventually(
      'no work is left',
      () => readdirSync(join(engine.root, 'layers/tmp')).length === 0,
    )
  }))

test('a pull in which nothing moves is given up', () =>
  withRegistry(async (registry) => {
    const { name } = push(registry, 'team/app')
    registry.behave = ({ path }, response) => {
      if (!path.includes('/blobs/')) return false
      response.writeHead(200, { 'content-length': 1_000_000 }).write('x')
      return true
    }
    await fault(pull(name, { stallMs: 400 }), 'DEADLINE_EXCEEDED', /nothing has moved for 0\.4 s/)
    assert.equal(images.pullsUnderWay(engine), [])
  }))

test('a slow pull is not given up while something moves, however long it takes', () =>
  withRegistry(async (registry) => {
    const { name, id, layers } = push(registry, 'team/app')
    let isSlow = false
    registry.behave = ({ path, range }, response) => {
      if (!path.includes(layers[0] ?? '') || isSlow) return false
      isSlow = true
      assert.is(range, undefined)
      const bytes = registry.content(path)
      response.writeHead(200, { 'content-length': bytes.length })
      const step = Math.ceil(bytes.length / 8)
      const send = (at: number): void => {
        if (at >= bytes.length) response.end()
        else response.write(bytes.subarray(at, at + step), () => setTimeout(send, 300, at + step))
      }
      send(0)
      return true
    }
    const start = performance.now()
    assert.is(await pull(name, { stallMs: 1500 }), id)
    assert.ok(performance.now() - start > 1800)
  }))

test('a registry that is not there, and one that knows no such image', () =>
  withRegistry(async (registry) => {
    const { name } = push(registry, 'team/app')
    await fault(pull(`${registry.host}/team/none:1`), 'NOT_FOUND', /has no .*none:1/)
    await fault(pull(`sha256:${'0'.repeat(64)}`), 'INVALID_ARGUMENT', /only a name can be pulled/)
    await registry.stop()
    const error = await pull(name).then(
      () => undefined,
      (reason: unknown) => reason,
    )
    assert.ok(images.isRegistryUnavailable(error), String(error))
  }))

test('transfers that stand still hold up no other image for long', () =>
  withRegistry(async (registry) => {
    const stalled = ['s1', 's2', 's3', 's4', 's5', 's6', 's7', 's8'].map((repository) =>
      pushImage(registry, repository, '1', {
        layers: [[{ name: repository, content: Buffer.alloc(200_000, repository) }]],
      }),
    )
    const { name, id } = push(registry, 'team/app')
    const last = new AbortController()
    registry.behave = ({ path }, response) => {
      const image = stalled.find(({ layers }) => path.includes(layers[0] ?? '-'))
      if (image === undefined) return false
      const bytes = registry.content(path)
      response.writeHead(200, { 'content-length': bytes.length }).write(bytes.subarray(0, 1000))
      return true
    }
    const hanging = stalled.map((image) => pull(image.name, { signal: last.signal }))
    const all = Promise.allSettled(hanging)
    await eventually(
      'all stand still',
      () => stalled.every((s) => blobGets(registry, s.layers[0]) > 0),
      PATIENCE,
    )
    assert.is(await pull(name), id)
    last.abort(new Fault('DEADLINE_EXCEEDED', 'over'))
    assert.ok((await all).every(({ status }) => status === 'rejected'))
  }))

test('removed by one tag, an image is gone under all its names; removing it again is no error', () =>
  withRegistry(async (registry) => {
    const image = push(registry, 'team/app')
    const twin = push(registry, 'team/app')
    const other = pushImage(registry, 'else/where', 'x', {
      layers: [BASE, [{ name: 'etc/team-app', content: 'team/app' }]],
      config: { User: '1000:50' },
    })
    assert.is(twin.id, other.id)
    await pull(image.name)
    await pull(other.name)
    assert.equal(images.listImages(engine)[0]?.repoTags, [other.name, image.name])
    await images.removeImage(engine, image.name)
    assert.equal(images.listImages(engine), [])
    for (const ref of [image.name, other.name, image.id]) {
      assert.is(images.imageStatus(engine, ref), undefined)
      await images.removeImage(engine, ref)
    }
    assert.equal(store.layers.list(), [])
    assert.equal([...store.blobs.digests()], [])
  }))

test('40 removals of 8 images at once: all succeed and nothing of them is left', () =>
  withRegistry(async (registry) => {
    const pushed = Array.from({ length: 8 }, (_, i) => push(registry, `many/${i}`))
    await Promise.all(pushed.map(({ name }) => pull(name)))
    await Promise.all(
      pushed.flatMap(({ name, id }) =>
        [name, id, name, id, name].map((ref) => images.removeImage(engine, ref)),
      ),
    )
    assert.equal(images.listImages(engine), [])
    assert.equal(store.layers.list(), [])
  }))

test('an image that is pinned is shown so, and removed when asked', () =>
  withRegistry(async (registry) => {
    const { name, id } = push(registry, 'team/app')
    await pull(name)
    const pinned = images.pinnedBy([`${registry.host}/team/*`])
    assert.is(images.listImages(engine, { pinned })[0]?.pinned, true)
    assert.is(images.imageStatus(engine, id, { pinned })?.image.pinned, true)
    await images.removeImage(engine, id)
    assert.equal(images.listImages(engine), [])
  }))

/** What the CRI's CreateContainer will write. */
function writeRecord(pod: string, id: string, record: unknown): () => void {
  const directory = join(engine.root, 'pods', pod, 'containers', id)
  mkdirSync(directory, { recursive: true })
  writeFileSync(join(directory, 'record.json'), JSON.stringify(record))
  return () => rmSync(directory, { recursive: true })
}

const trees = (lower: readonly string[]) =>
  lower.map((path) => readdirSync(join(engine.root, path)))

test('what a container of a pod uses stays, though its image is removed, until the record is gone', () =>
  withRegistry(async (registry) => {
    const { name, id } = push(registry, 'team/app')
    await pull(name)
    const { lower, remove } = await images.useImage(engine, name, async (image) => ({
      lower: image.lower,
      remove: writeRecord('p', 'c'.repeat(64), { imageId: image.id, lower: image.lower }),
    }))
    assert.ok(lower.length >= 2)
    await images.removeImage(engine, name)
    assert.equal(images.listImages(engine), [])
    const bystander = push(registry, 'team/other')
    await pull(bystander.name)
    await images.removeImage(engine, bystander.name)
    await berth.ok(['image', 'prune', '-a', '-f'])
    assert.ok(trees(lower).every((entries) => entries.length > 0))
    assert.ok(store.blobs.has(id as Parameters<typeof store.blobs.has>[0]))
    remove()
    await berth.ok(['image', 'prune', '-a', '-f'])
    assert.throws(() => trees(lower), /ENOENT/)
    assert.equal(store.layers.list(), [])
  }))

test("the command line's rmi refuses the image of a pod, of a container's and of a volume's", () =>
  withRegistry(async (registry) => {
    const app = push(registry, 'team/app')
    const volume = push(registry, 'team/volume')
    await pull(app.name)
    await pull(volume.name)
    const use = (name: string) =>
      images.useImage(engine, name, async ({ id, lower }) => ({ imageId: id, lower }))
    const remove = writeRecord('p', 'c'.repeat(64), {
      ...(await use(app.name)),
      imageMounts: [await use(volume.name)],
    })
    for (const { name } of [app, volume]) {
      await berth.refused(['rmi', name], /in use by container cccccccccccc of a pod/)
    }
    await berth.ok(['image', 'prune', '-a', '-f'])
    assert.is(images.listImages(engine).length, 2)
    remove()
    await berth.ok(['rmi', app.name, volume.name])
  }))

test('a record of a pod that cannot be read keeps everything', () =>
  withRegistry(async (registry) => {
    const { name } = push(registry, 'team/app')
    await pull(name)
    writeRecord('p', 'c'.repeat(64), { imageId: 7 })
    await images.removeImage(engine, name)
    assert.match(warnings.join('\n'), /record\.json is damaged/)
    assert.is(store.layers.list().length, 2)
    rmSync(join(engine.root, 'pods'), { recursive: true })
    await berth.ok(['image', 'prune', '-f'])
    assert.equal(store.layers.list(), [])
  }))

test('an image removed while a container is being made of it goes when that has ended', () =>
  withRegistry(async (registry) => {
    const { name } = push(registry, 'team/app')
    await pull(name)
    await images.useImage(engine, name, async ({ lower }) => {
      await images.removeImage(engine, name)
      assert.ok(trees(lower).every((entries) => entries.length > 0))
    })
    assert.equal(store.layers.list(), [])
  }))

test('an image is missing where a container asks for one that was not pulled', () =>
  withRegistry(() =>
    fault(
      images.useImage(engine, 'none', async () => {}),
      'NOT_FOUND',
      /no image/,
    ),
  ))

const VOLUME: TarEntry[] = [
  { name: 'data/', type: 'directory' },
  { name: 'data/file', content: 'content' },
  { name: 'data/deep/', type: 'directory' },
  { name: 'link', type: 'symlink', to: '/data/deep' },
  { name: 'out', type: 'symlink', to: '../../../../../../../../etc' },
  { name: 'self', type: 'symlink', to: 'self' },
  { name: 'pipe', type: 'fifo' },
]

test('a sub-path of an image is resolved inside the image, over all layers', () =>
  withRegistry(async (registry) => {
    for (const layers of [[VOLUME], [BASE, VOLUME]]) {
      const { name, id } = pushImage(registry, 'team/volume', '1', { layers })
      await pull(name)
      await images.useImage(engine, name, async (image) => {
        const at = (path: string) => images.imageVolume(engine, image, path)
        const place = (path: string) => [at(path).path, at(path).isDirectory]
        assert.is(at('').id, id)
        assert.equal(place(''), ['', true])
        assert.equal(place('data'), ['data', true])
        assert.equal(place('./data//deep/'), ['data/deep', true])
        assert.equal(place('data/file'), ['data/file', false])
        assert.equal(place('link'), ['data/deep', true])
        using mounted = overlayMount({ lower: at('data').directories })
        const path = `/proc/self/fd/${mounted.number}/${at('data/file').path}`
        assert.is(readFileSync(path, 'utf8'), 'content')
        assert.throws(() => writeFileSync(path, ''), /EROFS/)
        // Absolute and climbing links stay inside: there is /etc in one image and none in the other.
        if (layers.length === 2) assert.equal(place('out'), ['etc', true])
        else assert.throws(() => at('out'), /has no "out"/)
        assert.throws(() => at('none'), /has no "none"/)
        assert.throws(() => at('data/file/x'), /has no/)
        assert.throws(() => at('self'), /has no "self"/)
        assert.throws(() => at('pipe'), /neither a directory nor a regular file/)
        for (const path of ['/data', '..', 'data/../data', 'a\0b', 'a'.repeat(5000)]) {
          assert.throws(() => at(path), /the sub-path .* of an image/, path)
        }
      })
    }
  }))

test('the file system of images grows by a pull and shrinks by a removal', () =>
  withRegistry(async (registry) => {
    const empty = await images.imageFsInfo(engine)
    assert.is(empty.images.mountpoint, engine.root)
    assert.ok(empty.device.totalBytes > empty.device.availableBytes)
    assert.ok(empty.images.timestampNs > 1_600_000_000_000_000_000n)
    const { name } = push(registry, 'team/app')
    await pull(name)
    const full = await images.imageFsInfo(engine)
    assert.ok(full.images.usedBytes - empty.images.usedBytes > 800_000)
    assert.ok(full.images.inodesUsed > empty.images.inodesUsed)
    await images.removeImage(engine, name)
    const after = await images.imageFsInfo(engine)
    assert.is(after.images.usedBytes, empty.images.usedBytes)
  }))

test("writable layers are measured behind the caller's back", () =>
  withRegistry(async () => {
    const upper = join(engine.root, 'pods/p/containers/c/upper')
    mkdirSync(upper, { recursive: true })
    writeFileSync(join(upper, 'file'), Buffer.alloc(500_000, 'x'))
    const before = await images.imageFsInfo(engine)
    assert.ok(before.containers.usedBytes < 500_000)
    const usage = await eventually('it is measured', () => images.writableLayerUsage(engine, upper))
    assert.ok(usage.bytes >= 500_000)
    assert.is(usage.inodes, 2)
    const after = await images.imageFsInfo(engine)
    assert.ok(after.containers.usedBytes - before.containers.usedBytes >= 500_000)
    assert.is(after.containers.timestampNs, usage.timestampNs)
    rmSync(dirname(upper), { recursive: true })
    assert.is((await images.imageFsInfo(engine)).containers.usedBytes, before.containers.usedBytes)
  }))

test('what is damaged is reported and left out, and a pull repairs it', () =>
  withRegistry(async (registry) => {
    const [a, b] = [push(registry, 'a'), push(registry, 'b')]
    await pull(a.name)
    await pull(b.name)
    const hex = a.id.slice(7)
    const damages: [what: string, path: string][] = [
      ['record', `images/records/${hex}.json`],
      ['configuration', `images/blobs/sha256/${hex}`],
      ['layer', `layers/sha256/${(a.diffIds[1] ?? '').slice(7)}/meta.json`],
      ['manifest', `images/blobs/sha256/${a.digest.slice(7)}`],
    ]
    for (const [what, path] of damages) {
      writeFileSync(join(engine.root, path), '{"broken')
      warnings.length = 0
      const ids = images.listImages(engine).map(({ id }) => id)
      assert.ok(ids.includes(b.id), what)
      assert.is(ids.includes(a.id), what !== 'record', what)
      assert.ok(images.imageStatus(engine, b.name), what)
      if (what !== 'manifest') {
        assert.is(images.imageStatus(engine, a.name), undefined, what)
        assert.match(warnings.join('\n'), /damaged|does not match its digest/, what)
      }
      assert.is(await pull(a.name), a.id, what)
      assert.ok(images.imageStatus(engine, a.name, { verbose: true }), what)
      assert.equal(
        images.listImages(engine).map(({ uid }) => uid),
        [1000, 1000],
        what,
      )
      await images.useImage(engine, a.name, async ({ lower }) => trees(lower))
    }
    for (const name of readdirSync(join(engine.root, 'images/names'))) {
      writeFileSync(join(engine.root, 'images/names', name), '')
    }
    assert.equal(
      images.listImages(engine).map(({ repoTags }) => repoTags),
      [[], []],
    )
    assert.is(images.imageStatus(engine, a.name), undefined)
    assert.is(await pull(a.name), a.id)
    assert.ok(images.imageStatus(engine, a.name))
    writeFileSync(join(engine.root, `images/records/${hex}.json`), '')
    await images.removeImage(engine, a.id)
    await images.removeImage(engine, b.id)
    assert.equal(images.listImages(engine), [])
    for (const name of readdirSync(join(engine.root, 'images/names'))) {
      rmSync(join(engine.root, 'images/names', name))
    }
  }))

test('a stored blob that is spoilt is fetched again; an image that lies about a good one costs nobody that blob', () =>
  withRegistry(async (registry) => {
    const { name, id, layers, diffIds } = push(registry, 'team/app')
    await pull(name)
    const blob = join(engine.root, `images/blobs/sha256/${(layers[0] ?? '').slice(7)}`)
    const good = readFileSync(blob)
    rmSync(join(engine.root, `layers/sha256/${(diffIds[0] ?? '').slice(7)}`), { recursive: true })
    writeFileSync(blob, Buffer.alloc(good.length, 'x'))
    assert.is(await pull(name), id)
    assert.ok(readFileSync(blob).equals(good))
    const liar = pushImage(registry, 'evil/app', '1', {
      layers: [BASE],
      diffIds: [`sha256:${'0'.repeat(64)}`],
    })
    await fault(pull(liar.name), 'DATA_LOSS', /diff id/)
    assert.ok(readFileSync(blob).equals(good))
  }))

test('a hold in another process does not stop a removal, and what it kept goes later', () =>
  withRegistry(async (registry) => {
    const { name } = push(registry, 'team/app')
    await pull(name)
    const hold = await holdContent(store)
    await images.removeImage(engine, name)
    assert.equal(images.listImages(engine), [])
    assert.is(store.layers.list().length, 2)
    hold.release()
    const other = push(registry, 'team/other')
    await pull(other.name)
    await eventually('the unused layer is gone', () => store.layers.list().length === 2)
  }))

test('what the command line pulls is an image of the node too, and its container keeps it', () =>
  withRegistry(async (registry) => {
    const { name, id } = push(registry, 'team/app')
    await berth.ok(['pull', name])
    assert.is(images.imageStatus(engine, name)?.image.id, id)
    await berth.ok(['create', '--name', 'one', name, '/x'])
    await images.removeImage(engine, name)
    assert.equal(images.listImages(engine), [])
    assert.is(store.layers.list().length, 2)
    await berth.ok(['rm', 'one'])
    await berth.ok(['image', 'prune', '-f'])
    assert.equal(store.layers.list(), [])
  }))

test('nothing is left behind', nothingIsLeft)

test.run()
