import { Fault } from '../base/fault.ts'
import type { Descriptor, Platform } from '../spec/image.ts'
import { MANIFEST_MEDIA_TYPES } from './manifest.ts'

/** Go's names of the architectures (image-spec, "architecture") by Node's. */
const ARCHITECTURES: Record<string, string> = {
  x64: 'amd64',
  ia32: '386',
  arm64: 'arm64',
  arm: 'arm',
  ppc64: 'ppc64le',
  riscv64: 'riscv64',
  s390x: 's390x',
  loong64: 'loong64',
  mips64el: 'mips64le',
  mipsel: 'mipsle',
}

/** Other spellings that people and old images use. */
const ALIASES: Record<string, { architecture: string; variant?: string }> = {
  x86_64: { architecture: 'amd64' },
  'x86-64': { architecture: 'amd64' },
  i386: { architecture: '386' },
  i686: { architecture: '386' },
  aarch64: { architecture: 'arm64' },
  armhf: { architecture: 'arm', variant: 'v7' },
  armel: { architecture: 'arm', variant: 'v6' },
}

const PART = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$/

/** What this process's machine runs. */
export function hostPlatform(): Platform {
  return normalPlatform({ os: 'linux', architecture: ARCHITECTURES[process.arch] ?? process.arch })
}

/** One spelling for one platform: aliases resolved, the variant that everyone means left out (amd64/v1, arm64/v8) or put in (arm/v7). */
export function normalPlatform(platform: Platform): Platform {
  const os = platform.os.toLowerCase()
  const given = platform.architecture.toLowerCase()
  const alias = Object.hasOwn(ALIASES, given) ? ALIASES[given] : undefined
  const architecture = alias?.architecture ?? given
  let variant = (platform.variant ?? alias?.variant ?? '').toLowerCase()
  if (/^[0-9]/.test(variant)) variant = `v${variant}`
  if (architecture === 'amd64' && variant === 'v1') variant = ''
  if (architecture === 'arm64' && (variant === 'v8' || variant === 'v8.0')) variant = ''
  if (architecture === 'arm' && variant === '') variant = 'v7'
  return { os, architecture, ...(variant === '' ? {} : { variant }) }
}

/** `linux/arm64/v8`, `arm64`, `linux/amd64`. INVALID_ARGUMENT for anything else, and UNIMPLEMENTED for another system than Linux. */
export function parsePlatform(text: string): Platform {
  const parts = text.split('/')
  if (parts.length > 3 || parts.some((part) => !PART.test(part))) {
    throw new Fault(
      'INVALID_ARGUMENT',
      `${JSON.stringify(text.slice(0, 200))} is not a platform: write os/architecture or os/architecture/variant, for example linux/arm64/v8`,
    )
  }
  const [first = '', second, third] = parts
  let platform: Platform
  if (second !== undefined) {
    platform = {
      os: first,
      architecture: second,
      ...(third === undefined ? {} : { variant: third }),
    }
  } else if (first.toLowerCase() === 'linux') {
    platform = { ...hostPlatform() }
  } else {
    platform = { os: 'linux', architecture: first }
  }
  const normal = normalPlatform(platform)
  if (normal.os !== 'linux') {
    throw new Fault(
      'UNIMPLEMENTED',
      `platform ${text}: berth runs Linux images only, not ${normal.os}`,
    )
  }
  return normal
}

export function formatPlatform(platform: Platform): string {
  const variant = platform.variant === undefined ? '' : `/${platform.variant}`
  return `${platform.os}/${platform.architecture}${variant}`
}

/** `v8.1` is 8.1; none is the architecture's lowest. */
function variantNumber(platform: Platform): number | undefined {
  if (platform.variant === undefined) return platform.architecture === 'arm64' ? 8 : 1
  const match = /^v([0-9]{1,3}(?:\.[0-9]{1,3})?)$/.exec(platform.variant)
  return match === null ? undefined : Number(match[1])
}

/**
 * How well an image made for `offered` serves a machine of `wanted`: undefined not at all, else the higher the better. A machine
 * runs what was made for its own or a lower variant (arm v7 runs v6, amd64 v3 runs v1), and the nearest is best.
 */
export function fit(offered: Platform, wanted: Platform): number | undefined {
  const a = normalPlatform(offered)
  const b = normalPlatform(wanted)
  if (a.os !== b.os || a.architecture !== b.architecture) return undefined
  if (a.variant === b.variant) return 1000
  const given = variantNumber(a)
  const limit = variantNumber(b)
  if (given === undefined || limit === undefined || given > limit) return undefined
  return given
}

/** What buildkit adds to an index for its own use, such as provenance: no image. */
function isAttestation({ platform, annotations }: Descriptor): boolean {
  if (platform?.os === 'unknown' && platform.architecture === 'unknown') return true
  return new Map(Object.entries(annotations ?? {})).has('vnd.docker.reference.type')
}

/**
 * The entry of an index for this platform: the best fit, the first of equals (image-spec, "image index"). Entries of kinds that are no manifest are
 * passed over, as the specification asks. One that names no platform is taken only where it is alone. NOT_FOUND lists what there is.
 */
export function choosePlatform(
  entries: readonly Descriptor[],
  wanted: Platform,
  what: string,
): Descriptor {
  const manifests = entries.filter(
    (entry) => MANIFEST_MEDIA_TYPES.includes(entry.mediaType) && !isAttestation(entry),
  )
  let best: Descriptor | undefined
  let bestFit = -1
  for (const candidate of manifests) {
    if (candidate.platform === undefined) continue
    const rank = fit(candidate.platform, wanted) ?? -1
    if (rank > bestFit) {
      best = candidate
      bestFit = rank
    }
  }
  if (best !== undefined) return best
  const [only] = manifests
  if (manifests.length === 1 && only !== undefined && only.platform === undefined) return only
  const offered = manifests
    .flatMap((m) => (m.platform === undefined ? [] : [formatPlatform(m.platform)]))
    .filter((text, i, all) => all.indexOf(text) === i)
  const list = offered.length === 0 ? 'no platform' : offered.slice(0, 30).join(', ')
  throw new Fault('NOT_FOUND', `${what} has no image for ${formatPlatform(wanted)}; it has ${list}`)
}
