import { readFileSync } from 'node:fs'
import { isErrno } from '../base/fault.ts'
import type { Platform } from '../spec/image.ts'
import { hostPlatform } from './platform.ts'

/** What each level of the x86-64 psABI asks of a CPU beyond the level below, in the words of /proc/cpuinfo (`abm` is LZCNT). */
const AMD64_LEVELS: readonly (readonly string[])[] = [
  [],
  ['cx16', 'lahf_lm', 'popcnt', 'ssse3', 'sse4_1', 'sse4_2'],
  ['abm', 'avx', 'avx2', 'bmi1', 'bmi2', 'f16c', 'fma', 'movbe', 'xsave'],
  ['avx512f', 'avx512bw', 'avx512cd', 'avx512dq', 'avx512vl'],
]

/** The highest variant of the architecture that a machine with this /proc/cpuinfo runs; undefined where the text does not say. */
export function cpuVariant(architecture: string, cpuinfo: string): string | undefined {
  if (architecture === 'amd64') {
    const flags = new Set(/^flags\s*:(.*)$/m.exec(cpuinfo)?.[1]?.split(' '))
    const missing = AMD64_LEVELS.findIndex((level) => !level.every((flag) => flags.has(flag)))
    return `v${missing < 0 ? AMD64_LEVELS.length : missing}`
  }
  if (architecture === 'arm') {
    const version = /^CPU architecture\s*:\s*(\d+)/m.exec(cpuinfo)?.[1]
    return version === undefined ? undefined : `v${version}`
  }
  return undefined
}

/** The most that this machine runs: the host's platform with its CPU's level, by which an entry of an index is chosen. */
export function machinePlatform(): Platform {
  const host = hostPlatform()
  const variant = cpuVariant(host.architecture, cpuinfo())
  return variant === undefined ? host : { ...host, variant }
}

function cpuinfo(): string {
  try {
    return readFileSync('/proc/cpuinfo', 'utf8')
  } catch (error) {
    // Without /proc, as in some chroots, the lowest level is a safe choice.
    if (isErrno(error, 'ENOENT', 'EACCES')) return ''
    throw error
  }
}
