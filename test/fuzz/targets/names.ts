import { parseChallenges } from '../../../src/image/auth.ts'
import { formatPlatform, parsePlatform } from '../../../src/image/platform.ts'
import { familiarName, formatReference, parseReference } from '../../../src/image/reference.ts'
import { claim, orFault, same, type Target } from '../target.ts'

const D = `sha256:${'a'.repeat(64)}`

export const references: Target = {
  run: (input) => {
    const text = input.toString('utf8')
    const read = orFault(() => parseReference(text))
    if (!('value' in read)) return
    const full = formatReference(read.value)
    claim(/^[\x21-\x7e]+$/.test(full), `${JSON.stringify(full)} has more than letters`)
    claim(!/(^|\/)\.{0,2}(\/|$)/.test(full), `${full} leads elsewhere`)
    same(formatReference(parseReference(full)), full, 'the full name, read again')
    same(formatReference(parseReference(familiarName(full))), full, 'the short name, read again')
  },
  seeds: ['nginx', `q.io:5000/a/b-c__d.e:V1_x@${D}`, '[::1]:5000/x', 'localhost/x', D].map((text) =>
    Buffer.from(text),
  ),
  words: ['docker.io/', 'library/', 'index.docker.io/', ':latest', `@${D}`, 'sha512:', '..', '%2f'],
  bytesMax: 700,
}

export const platforms: Target = {
  run: (input) => {
    const read = orFault(() => parsePlatform(input.toString('utf8')))
    if (!('value' in read)) return
    const text = formatPlatform(read.value)
    same(formatPlatform(parsePlatform(text)), text, 'the platform, read again')
  },
  seeds: ['linux/arm64/v8', 'linux', 'x86_64', 'linux/arm/7'].map((text) => Buffer.from(text)),
  words: ['linux/', 'arm', 'arm64', 'amd64', 'v8', 'aarch64', 'armhf', 'windows'],
  bytesMax: 200,
}

export const challenges: Target = {
  run: (input) => {
    const read = orFault(() => parseChallenges(input.toString('latin1')))
    claim(!('value' in read) || Array.isArray(read.value), 'no list')
  },
  seeds: [
    'Bearer realm="https://a/token",service="b, c",scope="repository:x:pull"',
    'Basic realm="x\\"y", Bearer realm=z',
    'Negotiate abc==, Basic',
  ].map((text) => Buffer.from(text)),
  words: ['Bearer ', 'Basic ', 'realm=', 'scope=', 'service=', '"', '\\"', ',', '=='],
  bytesMax: 2000,
}
