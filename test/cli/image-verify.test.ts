/** Signatures as a user, and the kubelet's CRI, meet them; what attackers try is in test/hostile/image-signatures.test.ts. */
import { generateKeyPairSync } from 'node:crypto'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { withBerth } from '../lib/berth.ts'
import { CriDaemon, failure } from '../lib/cri.ts'
import { writeLayout } from '../lib/images.ts'
import { needs } from '../lib/needs.ts'
import { TestRegistry } from '../lib/registry.ts'
import { pushImage } from '../lib/registry-image.ts'
import { attachSignatures, payloadOf, sign } from '../lib/signature.ts'
import { testDirectory } from '../lib/traces.ts'

needs('root', 'overlay', 'cgroup2')

const UNKNOWN = 2
const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const PEM = publicKey.export({ type: 'spki', format: 'pem' })

const registry = await TestRegistry.start()
const push = (tag: string) =>
  pushImage(registry, 'team/app', tag, { layers: [[{ name: 'tag', content: tag }]] })
const signed = push('signed')
const unsigned = push('unsigned')
const payload = payloadOf(signed.digest, `${registry.host}/team/app`)
attachSignatures(registry, 'team/app', signed.digest, [
  { payload, signature: sign(payload, privateKey) },
])

/** A policy that wants everything of the registry signed, whatever the tag. */
function policyIn(directory: string): string {
  const file = join(directory, 'policy.json')
  const keyPath = join(directory, 'cosign.pub')
  writeFileSync(keyPath, PEM)
  const signedIdentity = { type: 'matchRepository' }
  const docker = { [registry.host]: [{ type: 'sigstoreSigned', keyPath, signedIdentity }] }
  writeFileSync(file, JSON.stringify({ default: [{ type: 'reject' }], transports: { docker } }))
  return file
}

test('load asks the policy, too: an archive has no signature', () =>
  withBerth(async (berth) => {
    const here = (name: string) => join(berth.directory, name)
    writeLayout(here('layout'), [{ name: 'q.io/a:1', layers: [[{ name: 'a', content: 'a' }]] }])
    const load = (from: string, policy: string) => [
      ...['load', '-q', '--signature-policy', policy, '-i', here(from)],
    ]
    const written = (transports: object): string => {
      const text = JSON.stringify({ default: [{ type: 'reject' }], transports })
      writeFileSync(here('p.json'), text)
      return here('p.json')
    }
    // What says something of registries alone rejects the rest.
    const policy = policyIn(berth.directory)
    await berth.refused(load('layout', policy), /SignatureValidationFailed: .*"default".*rejects/)
    assert.is(await berth.ok(['images', '-q']), '')
    const accept = [{ type: 'insecureAcceptAnything' }]
    await berth.ok(load('layout', written({ oci: { [berth.directory]: accept } })))
    await berth.ok(['save', '-q', '-o', here('docker.tar'), 'q.io/a:1'])
    await berth.ok(['save', '-q', '--format', 'oci-archive', '-o', here('oci.tar'), 'q.io/a:1'])
    await berth.refused(
      load('oci.tar', written({ 'docker-archive': { '': accept } })),
      /rejects it/,
    )
    await berth.ok(load('docker.tar', written({ 'docker-archive': { '': accept } })))
    const signedOnly = [{ type: 'sigstoreSigned', keyPath: here('cosign.pub') }]
    await berth.refused(
      load('docker.tar', written({ 'docker-archive': { '': signedOnly } })),
      /SignatureValidationFailed: .*it has no signature, which "docker-archive" of/,
    )
    await berth.refused(load('docker.tar', here('none')), /there is no signature policy/)
  }))

test('image verify says by which signature an image would be pulled, and fetches nothing of it', () =>
  withBerth(async (berth) => {
    const policy = policyIn(berth.directory)
    const key = join(berth.directory, 'cosign.pub')
    for (const how of [
      ['--key', key],
      ['--policy', policy],
    ]) {
      const text = await berth.ok(['image', 'verify', ...how, signed.name])
      assert.ok(
        text.startsWith(
          `${signed.name}: ${signed.digest}\nsigned as "${registry.host}/team/app" with `,
        ),
        text,
      )
      await berth.refused(
        ['image', 'verify', ...how, unsigned.name],
        /SignatureValidationFailed: .*unsigned is refused: it has no signature/,
      )
    }
    const json = JSON.parse(
      await berth.ok(['image', 'verify', '--key', key, '--format', 'json', signed.name]),
    )
    assert.equal(json.signatures, [
      { digest: signed.digest, identity: `${registry.host}/team/app`, key: `the key ${key}` },
    ])
    assert.match(
      await berth.ok(['image', 'verify', unsigned.name]),
      /the policy asks for no signature/,
    )
    await berth.refused(
      ['image', 'verify', '--key', key, '--policy', policy, signed.name],
      /exclude/,
    )
    await berth.refused(
      ['image', 'verify', '--key', '/nowhere', signed.name],
      /cannot read the key \/nowhere/,
    )
    assert.is(await berth.ok(['images', '-q']), '')
    assert.ok(
      [...signed.layers, ...unsigned.layers].every((digest) => registry.count(digest) === 0),
    )
  }))

test('pull takes what is signed and refuses what is not', () =>
  withBerth(async (berth) => {
    const policy = policyIn(berth.directory)
    await berth.refused(
      ['pull', '--signature-policy', policy, unsigned.name],
      /SignatureValidationFailed/,
    )
    await berth.ok(['pull', '--signature-policy', policy, signed.name])
    await berth.refused(
      ['pull', '--signature-policy', '/nowhere', signed.name],
      /there is no signature policy/,
    )
  }))

test('PullImage: the kubelet gets the word that it knows, with the code by which it reads it', async () => {
  const directory = testDirectory()
  const daemon = new CriDaemon(`[image]\nsignature_policy = "${policyIn(directory)}"\n`)
  try {
    await daemon.start()
    const pull = (image: string) => daemon.call('PullImage', { image: { image } })
    const { code, text } = await failure(pull(unsigned.name))
    assert.is(code, UNKNOWN)
    assert.ok(text.startsWith('SignatureValidationFailed: '), text)
    assert.equal((await daemon.call('ListImages')).images, [])
    assert.is((await pull(signed.name)).imageRef, signed.id)
  } finally {
    await daemon.destroy()
    rmSync(directory, { recursive: true })
  }
})

test('the registry of these tests ends', () => registry.stop())

test.run()
