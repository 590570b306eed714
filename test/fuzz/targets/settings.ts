import { parseHosts } from '../../../src/image/hosts.ts'
import { matchesIdentity, parseIdentityRule } from '../../../src/image/identity.ts'
import { parsePolicy, requirementsFor } from '../../../src/image/policy.ts'
import { parseReference } from '../../../src/image/reference.ts'
import { parseRegistries, registryEndpoints } from '../../../src/image/registries-conf.ts'
import { parsePayload } from '../../../src/image/sigstore.ts'
import { claim, orFault, type Target } from '../target.ts'

const D = `sha256:${'a'.repeat(64)}`
const NAMES = ['busybox', 'a.example.com:5000/b/c:1', `q.io/x@${D}`].map(parseReference)

export const hosts: Target = {
  run: (input) => {
    const read = orFault(() =>
      parseHosts(input.toString('utf8'), {
        repository: { domain: 'q.io', path: 'a/b' },
        file: 'f',
        folder: '/f',
        insecure: [],
        warn: () => undefined,
      }),
    )
    if (!('value' in read)) return
    claim(
      read.value.every(({ url }) => url.protocol === 'https:' || url.protocol === 'http:'),
      'an address of another protocol',
    )
  },
  seeds: [
    `server = "https://q.io"
[host."https://m.example:5000/v2"]
capabilities = ["pull", "resolve"]
ca = ["a.pem", "/b.pem"]
client = [["c", "k"], "x"]
skip_verify = true
override_path = true
[host."https://m.example:5000/v2".header]
x-a = ["1", "2"]
`,
    'capabilities = ["pull"]\n',
  ].map((text) => Buffer.from(text)),
  words: [
    '[host."',
    '"]',
    'server',
    'ca',
    'client',
    'skip_verify',
    'header',
    'http://',
    '[[',
    '\n',
  ],
  bytesMax: 4096,
}

export const registries: Target = {
  run: (input) => {
    const read = orFault(() => parseRegistries(input.toString('utf8'), 'f', () => undefined))
    if (!('value' in read)) return
    for (const name of NAMES) {
      // A blocked registry is a refusal; an address that is none must have been one when the file was read.
      const found = orFault(() => registryEndpoints(read.value, name, []))
      claim(
        !('value' in found) ||
          found.value === undefined ||
          found.value.every(({ url }) => /^https?:$/.test(url.protocol)),
        'an address of another protocol',
      )
    }
  },
  seeds: [
    `unqualified-search-registries = ["docker.io"]
[[registry]]
prefix = "*.example.com"
location = "mirror.io:5000/x"
insecure = true
blocked = false
mirror-by-digest-only = true
[[registry.mirror]]
location = "m.io"
pull-from-mirror = "tag-only"
`,
    '[[registry]]\nprefix = "q.io/x"\nblocked = true\n[aliases]\n"a" = "b/c"\n',
  ].map((text) => Buffer.from(text)),
  words: [
    '[[registry]]',
    '[[registry.mirror]]',
    'prefix',
    'location',
    '*.',
    'docker.io',
    '"',
    '\n',
  ],
  bytesMax: 4096,
}

const key = { type: 'sigstoreSigned', keyPath: '/k' }
const rules = [
  { type: 'matchRepository' },
  { type: 'exactReference', dockerReference: 'a/b:1' },
  { type: 'exactRepository', dockerRepository: 'a/b' },
  { type: 'remapIdentity', prefix: 'q.io', signedPrefix: 'v.io/x' },
]

export const policies: Target = {
  run: (input) => {
    const read = orFault(() => parsePolicy(input.toString('utf8'), 'p'))
    if (!('value' in read)) return
    for (const name of NAMES) {
      const { requirements } = requirementsFor(read.value, name)
      claim(requirements.length > 0, 'a policy without requirements accepts all')
      for (const requirement of requirements) {
        if (requirement.type !== 'sigstoreSigned') continue
        claim(requirement.keys.length > 0, 'a signature by nobody')
        // A prefix that makes no name is a mistake of the policy, told when it is used.
        orFault(() => matchesIdentity(requirement.identity, name, 'q.io/x'))
      }
    }
  },
  seeds: [
    { default: [{ type: 'reject' }] },
    {
      default: [key],
      transports: {
        docker: {
          'q.io': rules.map((signedIdentity) => ({ ...key, signedIdentity })),
          '*.example.com': [{ type: 'insecureAcceptAnything' }],
          '': [{ type: 'sigstoreSigned', keyDatas: ['YQ=='] }],
        },
      },
    },
  ].map((policy) => Buffer.from(JSON.stringify(policy))),
  words: [
    '"default":',
    '"transports":',
    '"docker":',
    'insecureAcceptAnything',
    'sigstoreSigned',
    'signedBy',
    'keyPaths',
    'keyData',
    'signedIdentity',
    'matchExact',
    'matchRepoDigestOrExact',
    '"__proto__":',
    '[]',
    '{}',
    'null',
  ],
  bytesMax: 4096,
}

export const payloads: Target = {
  run: (input) => {
    const read = orFault(() => parsePayload(input, 'x'))
    if (!('value' in read)) return
    claim(/^sha(256|512):[0-9a-f]+$/.test(read.value.digest), 'no digest')
    for (const rule of [undefined, ...rules]) {
      for (const name of NAMES) {
        orFault(() => matchesIdentity(parseIdentityRule(rule, 'x'), name, read.value.identity))
      }
    }
  },
  seeds: [
    {
      critical: {
        type: 'cosign container image signature',
        image: { 'docker-manifest-digest': D },
        identity: { 'docker-reference': 'q.io/x' },
      },
      optional: null,
    },
  ].map((payload) => Buffer.from(JSON.stringify(payload))),
  words: ['"critical":', '"optional":', '"type":', 'sha512:', D, 'null', '{}'],
  bytesMax: 2048,
}
