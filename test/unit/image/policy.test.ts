import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Fault } from '../../../src/base/fault.ts'
import { matchesIdentity, parseIdentityRule } from '../../../src/image/identity.ts'
import {
  type ArchiveTransport,
  parsePolicy,
  readPolicy,
  requirementsFor,
  requirementsForArchive,
} from '../../../src/image/policy.ts'
import { parseNamed, parseReference } from '../../../src/image/reference.ts'
import { isSignedBy, parsePayload, parsePublicKey } from '../../../src/image/sigstore.ts'

const D = `sha256:${'1'.repeat(64)}`
const accept = [{ type: 'insecureAcceptAnything' }]
const reject = [{ type: 'reject' }]

// -- which requirements --------------------------------------------------------------------------------

const policy = parsePolicy(
  JSON.stringify({
    default: reject,
    transports: {
      docker: {
        'q.io/team/app:1': accept,
        [`q.io/team/app@${D}`]: accept,
        'q.io/team/app': accept,
        'q.io/team': accept,
        'q.io:5000': accept,
        '*.example.com': accept,
        '*.sub.example.com': accept,
        'docker.io/library/busybox': accept,
      },
      'docker-daemon': { '': accept },
    },
  }),
  'p',
)
const scopes: [image: string, scope: string][] = [
  ['q.io/team/app:1', 'q.io/team/app:1'],
  [`q.io/team/app@${D}`, `q.io/team/app@${D}`],
  [`q.io/team/app:1@${D}`, `q.io/team/app@${D}`],
  ['q.io/team/app:2', 'q.io/team/app'],
  ['q.io/team/app/deep', 'q.io/team/app'],
  ['q.io/team/application', 'q.io/team'],
  ['q.io/teams/app', 'default'],
  ['q.io/app', 'default'],
  ['q.io:5000/app', 'q.io:5000'],
  ['q.io:5001/app', 'default'],
  ['a.example.com/x', '*.example.com'],
  ['a.example.com:443/x', '*.example.com'],
  ['a.sub.example.com/x', '*.sub.example.com'],
  ['example.com/x', 'default'],
  ['evilexample.com/x', 'default'],
  ['busybox', 'docker.io/library/busybox'],
]
for (const [image, scope] of scopes) {
  test(`the policy for ${image} is that of ${scope}`, () => {
    const chosen = requirementsFor(policy, parseReference(image))
    assert.is(chosen.scope, scope)
    assert.is(
      chosen.requirements[0]?.type,
      scope === 'default' ? 'reject' : 'insecureAcceptAnything',
    )
  })
}

// -- archives ------------------------------------------------------------------------------------------

const archives = parsePolicy(
  JSON.stringify({
    default: reject,
    transports: {
      'docker-archive': { '': accept },
      'oci-archive': { '/srv/images': accept, '/srv/images/bad.tar': reject },
      oci: { '/': accept },
    },
  }),
  'p',
)
const read: [transport: ArchiveTransport, path: string | undefined, scope: string, type: string][] =
  [
    ['docker-archive', '/a.tar', 'docker-archive', 'insecureAcceptAnything'],
    ['docker-archive', undefined, 'docker-archive', 'insecureAcceptAnything'],
    ['oci-archive', '/srv/images/a.tar', '/srv/images', 'insecureAcceptAnything'],
    ['oci-archive', '/srv/images/deep/a.tar', '/srv/images', 'insecureAcceptAnything'],
    ['oci-archive', '/srv/images/bad.tar', '/srv/images/bad.tar', 'reject'],
    ['oci-archive', '/srv/images2/a.tar', 'default', 'reject'],
    ['oci-archive', undefined, 'default', 'reject'],
    ['oci', '/x', '/', 'insecureAcceptAnything'],
  ]
for (const [transport, path, scope, type] of read) {
  test(`the policy for ${transport} ${path ?? 'from a pipe'} is that of ${scope}`, () => {
    const chosen = requirementsForArchive(archives, transport, path)
    assert.equal([chosen.scope, chosen.requirements[0]?.type], [scope, type])
  })
}

for (const [transport, scope] of [
  ['docker-archive', '/a.tar'],
  ['oci-archive', 'a.tar'],
  ['oci-archive', '/a/../b.tar'],
  ['oci', '/a/'],
  ['oci', '/a:b'],
] as const) {
  test(`the scope ${scope} of ${transport} would protect nothing and is refused`, () => {
    const text = JSON.stringify({
      default: accept,
      transports: { [transport]: { [scope]: reject } },
    })
    try {
      parsePolicy(text, 'p')
    } catch (error) {
      assert.is((error as Fault).code, 'INVALID_ARGUMENT')
      return
    }
    assert.unreachable('it was accepted')
  })
}

test("a transport's own default comes before the default of all", () => {
  const text = JSON.stringify({ default: reject, transports: { docker: { '': accept } } })
  const chosen = requirementsFor(parsePolicy(text, 'p'), parseReference('x'))
  assert.is(chosen.scope, 'docker')
  assert.is(chosen.requirements[0]?.type, 'insecureAcceptAnything')
})

const signed = { type: 'sigstoreSigned', keyPath: '/k' }
const bad: [name: string, policy: unknown, reason: RegExp][] = [
  ['no object', [], /no JSON object/],
  ['no JSON', '{', /not valid JSON/],
  ['no default', {}, /default of .*: it must be a list/],
  ['an empty list', { default: [] }, /at least one/],
  ['a misspelt word', { defualt: accept, default: accept }, /"defualt" is not known/],
  ['another type', { default: [{ type: 'signed' }] }, /type "signed"/],
  ['a type __proto__', { default: [{ type: '__proto__' }] }, /__proto__/],
  ['more in accept', { default: [{ ...accept[0], keyPath: '/k' }] }, /"keyPath" is not known/],
  ['no key', { default: [{ type: 'sigstoreSigned' }] }, /exactly one of keyPath/],
  ['two sources of keys', { default: [{ ...signed, keyData: 'eA==' }] }, /exactly one of/],
  ['a relative key', { default: [{ ...signed, keyPath: 'k' }] }, /must be absolute/],
  ['no keys in a list', { default: [{ type: 'sigstoreSigned', keyPaths: [] }] }, /1 to 32 keys/],
  [
    'too many keys',
    { default: [{ type: 'sigstoreSigned', keyPaths: Array(33).fill('/k') }] },
    /1 to 32/,
  ],
  [
    'a misspelt word in a requirement',
    { default: [{ ...signed, signedidentity: {} }] },
    /"signedidentity" is not known/,
  ],
  [
    'another identity',
    { default: [{ ...signed, signedIdentity: { type: 'matchAll' } }] },
    /"matchAll" is none of/,
  ],
  [
    'an exact reference that is none',
    {
      default: [{ ...signed, signedIdentity: { type: 'exactReference', dockerReference: 'a/b' } }],
    },
    /needs a tag or a digest/,
  ],
  [
    'a bad scope of a registry',
    { default: accept, transports: { docker: { 'q.io': {} } } },
    /the scope "q.io" of .*must be a list/,
  ],
]
for (const [name, value, reason] of bad) {
  test(`a policy with ${name} is refused as a whole`, () => {
    const text = typeof value === 'string' ? value : JSON.stringify(value)
    assert.throws(
      () => parsePolicy(text, 'p'),
      (error: unknown) => error instanceof Fault && reason.test(error.message),
    )
  })
}

const beyond: [name: string, requirement: object][] = [
  ['signedBy', { type: 'signedBy', keyType: 'GPGKeys', keyPath: '/k' }],
  ['fulcio', { type: 'sigstoreSigned', fulcio: { caPath: '/c' } }],
  ['rekorPublicKeyPath', { ...signed, rekorPublicKeyPath: '/r' }],
  ['pki', { type: 'sigstoreSigned', pki: {} }],
]
for (const [name, requirement] of beyond) {
  test(`${name} is read, and only what it covers is refused`, () => {
    const [only] = parsePolicy(JSON.stringify({ default: [requirement] }), 'p').byDefault
    assert.is(only?.type, 'unsupported')
    assert.match(only?.type === 'unsupported' ? only.what : '', new RegExp(name))
  })
}

test('a policy that is not there is none; one that was named must be there', () => {
  assert.is(readPolicy(undefined), undefined)
  assert.throws(() => readPolicy('/nowhere/policy.json'), /there is no signature policy/)
})

// -- identities -----------------------------------------------------------------------------------------

const exact = { type: 'exactReference', dockerReference: 'v.io/app:1' }
const remap = { type: 'remapIdentity', prefix: 'mirror:5000/v', signedPrefix: 'v.io' }
const identities: [rule: object | undefined, pulled: string, signed: string, isMatch: boolean][] = [
  [undefined, 'q.io/a:1', 'q.io/a:1', true],
  [undefined, 'q.io/a:1', 'q.io/a:2', false],
  [undefined, 'q.io/a', 'q.io/a:latest', true],
  [undefined, 'q.io/a:1', 'q.io/b:1', false],
  // cosign leaves the tag out: that vouches for no tag, and it is not `latest`.
  [undefined, 'q.io/a:latest', 'q.io/a', false],
  [undefined, `q.io/a@${D}`, 'q.io/a', true],
  [undefined, `q.io/a:9@${D}`, 'q.io/a:1', true],
  [undefined, `q.io/a@${D}`, 'q.io/b:1', false],
  [undefined, 'q.io/a:1', `q.io/a@${D}`, false],
  [{ type: 'matchExact' }, 'q.io/a:1', 'q.io/a:1', true],
  [{ type: 'matchExact' }, `q.io/a@${D}`, 'q.io/a:1', false],
  [{ type: 'matchExact' }, `q.io/a@${D}`, `q.io/a@${D}`, true],
  [{ type: 'matchRepository' }, 'q.io/a:1', 'q.io/a', true],
  [{ type: 'matchRepository' }, 'busybox:1', 'index.docker.io/library/busybox', true],
  [{ type: 'matchRepository' }, 'q.io/a:1', 'q.io/a/b', false],
  [{ type: 'matchRepository' }, 'q.io/a:1', 'q.io:443/a', false],
  [{ type: 'matchRepository' }, 'q.io/a:1', '', false],
  [{ type: 'matchRepository' }, 'q.io/a:1', '../a', false],
  [exact, 'q.io/any:7', 'v.io/app:1', true],
  [exact, 'q.io/any:7', 'v.io/app:2', false],
  [exact, 'v.io/app:1', 'v.io/app', false],
  [{ type: 'exactRepository', dockerRepository: 'v.io/app' }, 'q.io/x', 'v.io/app:3', true],
  [{ type: 'exactRepository', dockerRepository: 'v.io/app' }, 'v.io/app2', 'v.io/app2', false],
  [remap, 'mirror:5000/v/app:1', 'v.io/app:1', true],
  [remap, 'mirror:5000/v/app:1', 'mirror:5000/v/app:1', false],
  [remap, 'mirror:5000/vv/app:1', 'v.io/v/app:1', false],
  [remap, 'mirror:5000/other:1', 'mirror:5000/other:1', true],
]
for (const [rule, pulled, identity, isMatch] of identities) {
  const name = `${JSON.stringify(rule ?? {})}: ${pulled} signed as ${JSON.stringify(identity)}`
  test(`${name} is ${isMatch ? 'accepted' : 'refused'}`, () => {
    const parsed = parseIdentityRule(rule, 'x')
    assert.is(matchesIdentity(parsed, parseReference(pulled), identity), isMatch)
  })
}

test('a name keeps what it has: no tag is not latest', () => {
  assert.is(parseNamed('q.io/a').tag, undefined)
  assert.is(parseReference('q.io/a').tag, 'latest')
})

// -- keys and payloads ----------------------------------------------------------------------------------

const pem = (key: KeyObject): string => key.export({ type: 'spki', format: 'pem' }).toString()
const data = Buffer.from('what is signed')
const pairs: [name: string, pair: { publicKey: KeyObject; privateKey: KeyObject }][] = [
  ['ECDSA P-256', generateKeyPairSync('ec', { namedCurve: 'P-256' })],
  ['ECDSA P-384', generateKeyPairSync('ec', { namedCurve: 'P-384' })],
  ['Ed25519', generateKeyPairSync('ed25519')],
  ['RSA', generateKeyPairSync('rsa', { modulusLength: 2048 })],
]
for (const [name, { publicKey, privateKey }] of pairs) {
  test(`${name} verifies its own signature, of these bytes, and nothing else`, () => {
    const key = parsePublicKey(pem(publicKey), 'k')
    const made = sign(name === 'Ed25519' ? null : 'sha256', data, privateKey)
    assert.is(isSignedBy(key, data, made), true)
    assert.is(isSignedBy(key, Buffer.from('what is signed.'), made), false)
    const other = Buffer.from(made)
    other[other.length - 1] = (other.at(-1) ?? 0) ^ 1
    for (const wrong of [other, Buffer.alloc(0), Buffer.alloc(300, 0x30), made.subarray(1)]) {
      assert.is(isSignedBy(key, data, wrong), false)
    }
  })
}

const { privateKey: secret } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const badKeys: [name: string, text: string, reason: RegExp][] = [
  ['a private key', secret.export({ type: 'pkcs8', format: 'pem' }).toString(), /no public key/],
  ['nothing', '', /no public key/],
  ['a broken key', '-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----', /decoded/],
  [
    'a short RSA key',
    pem(generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey),
    /1024 bits/,
  ],
  [
    'another curve',
    pem(generateKeyPairSync('ec', { namedCurve: 'secp256k1' }).publicKey),
    /secp256k1 is none of/,
  ],
  ['a key for key agreement', pem(generateKeyPairSync('x25519').publicKey), /x25519 is none of/],
]
for (const [name, text, reason] of badKeys) {
  test(`${name} is no key to verify with`, () =>
    assert.throws(() => parsePublicKey(text, 'k'), reason))
}

const critical = {
  type: 'cosign container image signature',
  image: { 'docker-manifest-digest': D },
  identity: { 'docker-reference': 'q.io/a' },
}
const payloads: [name: string, payload: unknown, reason: RegExp | undefined][] = [
  ['as cosign writes it', { critical, optional: null }, undefined],
  ['with annotations', { critical, optional: { a: 'b', timestamp: 1 } }, undefined],
  [
    'of newer cosign',
    { critical: { ...critical, type: 'https://sigstore.dev/cosign/sign/v1' } },
    undefined,
  ],
  ['of GnuPG', { critical: { ...critical, type: 'atomic container signature' } }, /its type is/],
  ['with a critical field more', { critical: { ...critical, notAfter: 1 } }, /"notAfter"/],
  ['with a field more', { critical, more: 1 }, /"more"/],
  ['without an image', { critical: { ...critical, image: undefined } }, /has no image/],
  ['of no digest', { critical: { ...critical, image: {} } }, /no valid digest/],
  ['of no object', 'x', /valid JSON/],
]
for (const [name, payload, reason] of payloads) {
  test(`a payload ${name} is ${reason === undefined ? 'read' : 'refused'}`, () => {
    const bytes = Buffer.from(typeof payload === 'string' ? payload : JSON.stringify(payload))
    if (reason === undefined)
      assert.equal(parsePayload(bytes, 'x'), { digest: D, identity: 'q.io/a' })
    else assert.throws(() => parsePayload(bytes, 'x'), reason)
  })
}

test.run()
