import { generateKeyPairSync, type KeyObject } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { pullImage } from '../../src/image/index.ts'
import { MEDIA_TYPES } from '../../src/spec/image.ts'
import { type PrivateStore, privateStore, storeContent } from '../lib/image-store.ts'
import { needs } from '../lib/needs.ts'
import { TestRegistry } from '../lib/registry.ts'
import { type PushedImage, pushImage } from '../lib/registry-image.ts'
import { attachSignatures, payloadOf, referSignatures, sign } from '../lib/signature.ts'

needs('root')

const ours = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const others = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const REPOSITORY = 'team/app'

interface Scene {
  readonly registry: TestRegistry
  readonly store: PrivateStore
  readonly image: PushedImage
  /** `127.0.0.1:PORT/team/app`. */
  readonly repository: string
  /** Writes a policy for this registry; its path. */
  policy(requirements: unknown, scope?: string): string
  keyFile(key: KeyObject): string
}

async function scene(use: (scene: Scene) => Promise<void>): Promise<void> {
  const registry = await TestRegistry.start()
  using store = privateStore()
  const image = pushImage(registry, REPOSITORY, '1', {
    layers: [[{ name: 'file', content: 'content\n' }]],
  })
  const keyFile = (key: KeyObject): string => {
    const file = join(store.directory, 'key.pub')
    writeFileSync(file, key.export({ type: 'spki', format: 'pem' }))
    return file
  }
  const policy = (requirements: unknown, scope = registry.host): string => {
    const file = join(store.directory, 'policy.json')
    const transports = { docker: { [scope]: requirements } }
    writeFileSync(file, JSON.stringify({ default: [{ type: 'reject' }], transports }))
    return file
  }
  try {
    await use({
      registry,
      store,
      image,
      repository: `${registry.host}/${REPOSITORY}`,
      policy,
      keyFile,
    })
  } finally {
    await registry.stop()
  }
}

function pull({ store, image }: Scene, policyFile: string, name = image.name) {
  return pullImage(store, name, { policyFile, certsDirectories: [] })
}

function signedBy(at: Scene, rule?: object): string {
  const signedIdentity = rule === undefined ? {} : { signedIdentity: rule }
  const keyPath = at.keyFile(ours.publicKey)
  return at.policy([{ type: 'sigstoreSigned', keyPath, ...signedIdentity }])
}

/** Refused with the word that kubelet knows, before a layer is fetched, and nothing is there. */
async function refused(at: Scene, work: Promise<unknown>, reason: RegExp): Promise<void> {
  try {
    await work
  } catch (error) {
    assert.is((error as { code?: string }).code, 'FAILED_PRECONDITION', String(error))
    const { message } = error as Error
    assert.ok(message.startsWith('SignatureValidationFailed: '), message)
    assert.match(message, reason)
    assert.equal(storeContent(at.store), [])
    assert.equal(at.store.catalog.list(), [])
    assert.ok(at.image.layers.every((digest) => at.registry.count(digest) === 0))
    return
  }
  assert.unreachable('it was accepted')
}

interface Made {
  readonly payload: Buffer
  readonly signature: string
}

function made(
  at: Scene,
  options: { identity?: string; digest?: string; key?: KeyObject } = {},
): Made {
  const { identity = at.image.name, digest = at.image.digest, key = ours.privateKey } = options
  const payload = payloadOf(digest, identity)
  return { payload, signature: sign(payload, key) }
}

function attach(at: Scene, ...signatures: Made[]): void {
  attachSignatures(at.registry, REPOSITORY, at.image.digest, signatures)
}

// -- accepted -------------------------------------------------------------------------------------------

const kinds: [name: string, pair: { publicKey: KeyObject; privateKey: KeyObject }][] = [
  ['ECDSA', ours],
  ['Ed25519', generateKeyPairSync('ed25519')],
  ['RSA', generateKeyPairSync('rsa', { modulusLength: 2048 })],
]
for (const [name, { publicKey, privateKey }] of kinds) {
  test(`an image signed with an ${name} key is pulled`, () =>
    scene(async (at) => {
      attach(at, made(at, { key: privateKey }))
      const keyData = Buffer.from(publicKey.export({ type: 'spki', format: 'pem' })).toString(
        'base64',
      )
      const { id } = await pull(at, at.policy([{ type: 'sigstoreSigned', keyData }]))
      assert.is(id, at.image.id)
    }))
}

test('one good signature among bad ones is enough, and one of several keys', () =>
  scene(async (at) => {
    attach(at, made(at, { key: others.privateKey }), made(at, { identity: 'q.io/x:1' }), made(at))
    const keys = [others, ours].map(({ publicKey }, i) => {
      const file = join(at.store.directory, `key${i}.pub`)
      writeFileSync(file, publicKey.export({ type: 'spki', format: 'pem' }))
      return file
    })
    await pull(at, at.policy([{ type: 'sigstoreSigned', keyPaths: keys }]))
  }))

test('a signature without a tag, as cosign makes it, counts for the repository and for a pull by digest', () =>
  scene(async (at) => {
    attach(at, made(at, { identity: at.repository }))
    await refused(at, pull(at, signedBy(at)), /which matchRepoDigestOrExact does not accept/)
    await pull(at, signedBy(at), `${at.repository}@${at.image.digest}`)
    await pull(at, signedBy(at, { type: 'matchRepository' }))
  }))

test('a signature that refers to the image, without the tag of cosign, is found', () =>
  scene(async (at) => {
    const bytes = at.registry.content(`/v2/${REPOSITORY}/manifests/${at.image.digest}`)
    const subject = {
      mediaType: MEDIA_TYPES.ociManifest,
      digest: at.image.digest,
      size: bytes.length,
    }
    referSignatures(at.registry, REPOSITORY, subject, [made(at)])
    await pull(at, signedBy(at))
  }))

test('a mirror of a signed repository is accepted by another name only where the policy says so', () =>
  scene(async (at) => {
    attach(at, made(at, { identity: 'vendor.example/product/app:1' }))
    await refused(at, pull(at, signedBy(at)), /"vendor\.example\/product\/app:1"/)
    const remap = {
      type: 'remapIdentity',
      prefix: `${at.registry.host}/team`,
      signedPrefix: 'vendor.example/product',
    }
    await pull(at, signedBy(at, remap))
  }))

for (const part of ['index', 'manifest'] as const) {
  test(`of an image for several platforms the signature of its ${part} is enough`, () =>
    scene(async (at) => {
      const bytes = at.registry.content(`/v2/${REPOSITORY}/manifests/${at.image.digest}`)
      const platform = {
        os: 'linux',
        architecture: process.arch === 'x64' ? 'amd64' : process.arch,
      }
      const manifest = {
        mediaType: MEDIA_TYPES.ociManifest,
        digest: at.image.digest,
        size: bytes.length,
        platform,
      }
      const document = { schemaVersion: 2, mediaType: MEDIA_TYPES.ociIndex, manifests: [manifest] }
      const index = at.registry.manifest(REPOSITORY, '1', document, MEDIA_TYPES.ociIndex)
      const digest = part === 'index' ? index.digest : at.image.digest
      attachSignatures(at.registry, REPOSITORY, digest, [made(at, { digest })])
      await pull(at, signedBy(at))
    }))
}

test('a policy that accepts asks the registry for no signature', () =>
  scene(async (at) => {
    await pull(at, at.policy([{ type: 'insecureAcceptAnything' }]))
    assert.is(at.registry.count('.sig'), 0)
    assert.is(at.registry.count('referrers'), 0)
  }))

// -- refused --------------------------------------------------------------------------------------------

const attacks: [name: string, arrange: (at: Scene) => void, reason: RegExp][] = [
  ['no signature', () => undefined, /has no signature, which "127\.0\.0\.1:\d+" of .*policy\.json/],
  [
    'a signature by another key',
    (at) => attach(at, made(at, { key: others.privateKey })),
    /made by none of the keys/,
  ],
  [
    'the signature of another tag (a downgrade)',
    (at) => attach(at, made(at, { identity: `${at.repository}:0` })),
    /does not accept/,
  ],
  [
    'the signature of another repository (a replay)',
    (at) => attach(at, made(at, { identity: `${at.registry.host}/team/other:1` })),
    /does not accept/,
  ],
  [
    'the signature of another image (swapped)',
    (at) => attach(at, made(at, { digest: `sha256:${'5'.repeat(64)}` })),
    /is for sha256:5555/,
  ],
  [
    'a payload changed after it was signed',
    (at) => {
      const { signature } = made(at, { digest: `sha256:${'5'.repeat(64)}` })
      attach(at, { payload: payloadOf(at.image.digest, at.image.name), signature })
    },
    /made by none of the keys/,
  ],
  [
    'one signature over two payloads',
    (at) => {
      const good = made(at, { digest: `sha256:${'5'.repeat(64)}` })
      attach(at, good, { ...made(at), signature: good.signature })
    },
    /is for sha256:5555.*; signature 2 .* made by none/,
  ],
  [
    'a signature of another kind of statement',
    (at) => {
      const text = payloadOf(at.image.digest, at.image.name).toString()
      const payload = Buffer.from(text.replace('cosign container image', 'other'))
      attach(at, { payload, signature: sign(payload, ours.privateKey) })
    },
    /its type is "other signature"/,
  ],
  [
    'a layer of the signature that is a file system',
    (at) => {
      const document = {
        schemaVersion: 2,
        mediaType: MEDIA_TYPES.ociManifest,
        config: {
          mediaType: MEDIA_TYPES.ociConfig,
          ...at.registry.blob(REPOSITORY, Buffer.from('{}')),
        },
        layers: [{ mediaType: MEDIA_TYPES.ociLayer, digest: at.image.layers[0], size: 9 }],
      }
      const tag = `${at.image.digest.replace(':', '-')}.sig`
      at.registry.manifest(REPOSITORY, tag, document, MEDIA_TYPES.ociManifest)
    },
    /signature 1 of sha256:.* is of type application\/vnd\.oci\.image\.layer/,
  ],
  [
    'a bundle of cosign 3 alone',
    (at) => {
      const subject = { mediaType: MEDIA_TYPES.ociManifest, digest: at.image.digest, size: 1 }
      const type = 'application/vnd.dev.sigstore.bundle.v0.3+json'
      referSignatures(at.registry, REPOSITORY, subject, [], type)
    },
    /bundle of cosign 3, which berth cannot verify/,
  ],
]
for (const [name, arrange, reason] of attacks) {
  test(`${name} is refused`, () =>
    scene(async (at) => {
      arrange(at)
      await refused(at, pull(at, signedBy(at)), reason)
    }))
}

test('a signature for the image that the tag had before does not serve the one it has now', () =>
  scene(async (at) => {
    attach(at, made(at))
    const evil = pushImage(at.registry, REPOSITORY, '1', { layers: [[{ name: 'evil' }]] })
    // The registry gives the old signature for the new digest.
    attachSignatures(at.registry, REPOSITORY, evil.digest, [made(at)])
    await refused(
      { ...at, image: evil },
      pull(at, signedBy(at)),
      new RegExp(`is for ${at.image.digest}`),
    )
  }))

test('all requirements must be met, each by a signature', () =>
  scene(async (at) => {
    const other = join(at.store.directory, 'other.pub')
    writeFileSync(other, others.publicKey.export({ type: 'spki', format: 'pem' }))
    const both = [
      { type: 'sigstoreSigned', keyPath: at.keyFile(ours.publicKey) },
      { type: 'sigstoreSigned', keyPath: other },
    ]
    attach(at, made(at))
    await refused(at, pull(at, at.policy(both)), /made by none of the keys/)
    attach(at, made(at), made(at, { key: others.privateKey }))
    await pull(at, at.policy(both))
  }))

const flat: [name: string, requirement: object, reason: RegExp][] = [
  ['reject', { type: 'reject' }, /rejects it/],
  ['signedBy', { type: 'signedBy', keyType: 'GPGKeys', keyPath: '/k' }, /GnuPG \(signedBy\)/],
  ['fulcio', { type: 'sigstoreSigned', fulcio: {} }, /with fulcio, which berth cannot verify/],
]
for (const [name, requirement, reason] of flat) {
  test(`${name} refuses before anything is asked of the registry`, () =>
    scene(async (at) => {
      attach(at, made(at))
      await refused(at, pull(at, at.policy([requirement])), reason)
      assert.is(at.registry.seen.length, 0)
    }))
}

test('what no scope covers falls to the default', () =>
  scene(async (at) => {
    const policy = at.policy([{ type: 'insecureAcceptAnything' }], `${at.registry.host}/other`)
    await refused(at, pull(at, policy), /"default" of .* rejects it/)
  }))

test('a registry that fails to answer for the signatures fails the pull; the image is not taken without them', () =>
  scene(async (at) => {
    at.registry.behave = ({ path }, response) => {
      if (!path.includes('.sig') && !path.includes('referrers')) return false
      response.writeHead(403).end('{}')
      return true
    }
    try {
      await pull(at, signedBy(at))
      assert.unreachable()
    } catch (error) {
      assert.is((error as { code?: string }).code, 'PERMISSION_DENIED')
    }
    assert.equal(at.store.catalog.list(), [])
  }))

test('a thousand signatures are not all looked at', () =>
  scene(async (at) => {
    const bad = made(at, { key: others.privateKey })
    attach(at, ...Array.from({ length: 100 }, () => bad))
    try {
      await pull(at, signedBy(at))
      assert.unreachable()
    } catch (error) {
      assert.match(String(error), /more than 64 signatures/)
    }
  }))

test('a policy with a mistake, and one whose key is missing, accept nothing', () =>
  scene(async (at) => {
    attach(at, made(at))
    const mistakes: [requirement: object, reason: RegExp][] = [
      [{ type: 'sigstoreSigned', keyPath: '/nowhere/key.pub' }, /cannot read the key/],
      [{ type: 'insecureAcceptAnythin' }, /none of those known/],
    ]
    for (const [requirement, reason] of mistakes) {
      try {
        await pull(at, at.policy([requirement]))
        assert.unreachable()
      } catch (error) {
        assert.match(String(error), reason)
      }
    }
    assert.equal(at.store.catalog.list(), [])
  }))

test('a policy is read at each pull', () =>
  scene(async (at) => {
    const policy = at.policy([{ type: 'reject' }])
    await refused(at, pull(at, policy), /rejects it/)
    at.policy([{ type: 'insecureAcceptAnything' }])
    await pull(at, policy)
  }))

test.run()
