import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { cpuVariant } from '../../../src/image/cpu.ts'
import {
  choosePlatform,
  fit,
  formatPlatform,
  hostPlatform,
  parsePlatform,
} from '../../../src/image/platform.ts'
import type { Descriptor, Digest } from '../../../src/spec/image.ts'

const parsed: [given: string, platform: string][] = [
  ['linux/amd64', 'linux/amd64'],
  ['Linux/x86_64', 'linux/amd64'],
  ['linux/amd64/v1', 'linux/amd64'],
  ['amd64/v3', ''],
  ['linux/amd64/v3', 'linux/amd64/v3'],
  ['aarch64', 'linux/arm64'],
  ['linux/arm64/v8', 'linux/arm64'],
  ['linux/arm64/8', 'linux/arm64'],
  ['linux/arm', 'linux/arm/v7'],
  ['linux/armel', 'linux/arm/v6'],
  ['linux/arm/6', 'linux/arm/v6'],
  ['linux', formatPlatform(hostPlatform())],
  ['windows/amd64', ''],
  ['a/b/c/d', ''],
  ['', ''],
  ['linux/../x', ''],
]
for (const [given, platform] of parsed) {
  test(`${JSON.stringify(given)} is ${platform === '' ? 'refused' : platform}`, () => {
    if (platform === '') assert.throws(() => parsePlatform(given))
    else assert.is(formatPlatform(parsePlatform(given)), platform)
  })
}

function entry(text: string): Descriptor {
  const [os = '', architecture = '', variant] = text.split('/')
  return {
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    digest: `sha256:${'0'.repeat(64)}` as Digest,
    size: 1,
    ...(text === '' ? {} : { platform: { os, architecture, ...(variant ? { variant } : {}) } }),
  }
}

const choices: { offered: string[]; wanted: string; chosen: string | undefined }[] = [
  { offered: ['linux/arm64', 'linux/amd64'], wanted: 'linux/amd64', chosen: 'linux/amd64' },
  { offered: ['linux/arm64/v8'], wanted: 'linux/arm64', chosen: 'linux/arm64/v8' },
  {
    offered: ['linux/arm/v5', 'linux/arm/v6', 'linux/arm/v7'],
    wanted: 'linux/arm/v6',
    chosen: 'linux/arm/v6',
  },
  { offered: ['linux/arm/v5', 'linux/arm/v6'], wanted: 'linux/arm/v7', chosen: 'linux/arm/v6' },
  { offered: ['linux/arm/v7'], wanted: 'linux/arm/v6', chosen: undefined },
  { offered: ['linux/amd64/v3', 'linux/amd64'], wanted: 'linux/amd64', chosen: 'linux/amd64' },
  {
    offered: ['linux/amd64/v2', 'linux/amd64/v4'],
    wanted: 'linux/amd64/v3',
    chosen: 'linux/amd64/v2',
  },
  { offered: ['unknown/unknown', 'linux/amd64'], wanted: 'linux/amd64', chosen: 'linux/amd64' },
  { offered: ['windows/amd64'], wanted: 'linux/amd64', chosen: undefined },
  { offered: [''], wanted: 'linux/amd64', chosen: '' },
  { offered: ['', ''], wanted: 'linux/amd64', chosen: undefined },
  { offered: ['unknown/unknown', ''], wanted: 'linux/amd64', chosen: '' },
  { offered: ['unknown/unknown'], wanted: 'linux/amd64', chosen: undefined },
  {
    offered: ['linux/amd64', 'linux/amd64/v2', 'linux/amd64/v3', 'linux/amd64/v4'],
    wanted: 'linux/amd64/v3',
    chosen: 'linux/amd64/v3',
  },
  { offered: ['linux/amd64/v9'], wanted: 'linux/amd64/v4', chosen: undefined },
  { offered: ['linux/arm/v7', 'linux/arm/v8'], wanted: 'linux/arm/v8', chosen: 'linux/arm/v8' },
  {
    offered: ['linux/arm64', 'linux/arm64/v9'],
    wanted: 'linux/arm64/v8.2',
    chosen: 'linux/arm64',
  },
  { offered: ['linux/amd64/odd', 'linux/amd64'], wanted: 'linux/amd64', chosen: 'linux/amd64' },
]
for (const { offered, wanted, chosen } of choices) {
  test(`of ${JSON.stringify(offered)} ${wanted} takes ${chosen ?? 'nothing'}`, () => {
    const manifests = offered.map(entry)
    const choose = () => choosePlatform(manifests, parsePlatform(wanted), 'x')
    if (chosen === undefined) assert.throws(choose, /has no image for/)
    else assert.is(choose(), manifests[offered.indexOf(chosen)])
  })
}

test('an entry of another kind, or one that describes another, is no image though its platform fits', () => {
  const image = entry('linux/amd64')
  const other = { ...image, mediaType: 'application/vnd.example.filesystem' }
  const note = { ...image, annotations: { 'vnd.docker.reference.type': 'attestation-manifest' } }
  assert.is(choosePlatform([other, note, image], parsePlatform('linux/amd64'), 'x'), image)
  assert.throws(() => choosePlatform([other, note], parsePlatform('linux/amd64'), 'x'), /no image/)
})

const V2 = 'sse ssse3 cx16 sse4_1 sse4_2 popcnt lahf_lm'
const V3 = `${V2} avx avx2 bmi1 bmi2 f16c fma abm movbe xsave`
const V4 = `${V3} avx512f avx512dq avx512cd avx512bw avx512vl`
const cpus: [architecture: string, cpuinfo: string, variant: string | undefined][] = [
  ['amd64', 'processor\t: 0\nflags\t\t: sse sse2\n', 'v1'],
  ['amd64', `flags\t\t: ${V2}\n`, 'v2'],
  ['amd64', `flags\t\t: ${V3}\n`, 'v3'],
  ['amd64', `flags\t\t: ${V4}\n`, 'v4'],
  // A level without a lower one, as a hypervisor may leave it, is none.
  ['amd64', `flags\t\t: ${V4.replace('movbe ', '')}\n`, 'v2'],
  ['amd64', '', 'v1'],
  ['arm', 'CPU implementer\t: 0x41\nCPU architecture: 7\n', 'v7'],
  ['arm', 'CPU architecture: 6\n', 'v6'],
  ['arm', '', undefined],
  ['riscv64', 'isa : rv64imafdc\n', undefined],
]
for (const [architecture, cpuinfo, variant] of cpus) {
  test(`${architecture} with ${JSON.stringify(cpuinfo.slice(-60))} runs ${variant}`, () =>
    assert.is(cpuVariant(architecture, cpuinfo), variant))
}

test('an architecture never fits another', () => {
  assert.is(
    fit({ os: 'linux', architecture: 'arm' }, { os: 'linux', architecture: 'arm64' }),
    undefined,
  )
})

test.run()
