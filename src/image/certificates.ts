import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { Fault, isErrno } from '../base/fault.ts'
import type { TlsFiles } from './http.ts'

const FILES_MAX = 64

/**
 * What docker and podman keep for a host in a folder of its name: CAs as `*.crt`, client certificates as `*.cert` with the `*.key` of the same
 * name. The first directory that has any decides; undefined where none has.
 */
export function certificatesOf(host: string, directories: readonly string[]): TlsFiles | undefined {
  for (const directory of directories) {
    const folder = join(directory, host)
    let names: string[]
    try {
      names = readdirSync(folder).sort()
    } catch (error) {
      if (isErrno(error, 'ENOENT', 'ENOTDIR')) continue
      throw error
    }
    const found = inFolder(folder, names)
    if (found.ca.length + found.client.length > 0) return found
  }
  return undefined
}

function inFolder(folder: string, names: readonly string[]): TlsFiles {
  const ending = (text: string): string[] => names.filter((name) => name.endsWith(text))
  const certificates = ending('.cert')
  const keys = ending('.key')
  const authorities = ending('.crt')
  if (certificates.length + authorities.length > FILES_MAX) {
    throw new Fault('INVALID_ARGUMENT', `${folder} holds more than ${FILES_MAX} certificates`)
  }
  for (const [name, other, has] of [
    ...certificates.map((name) => [name, name.replace(/cert$/, 'key'), keys] as const),
    ...keys.map((name) => [name, name.replace(/key$/, 'cert'), certificates] as const),
  ]) {
    if (has.includes(other)) continue
    throw new Fault('INVALID_ARGUMENT', `${join(folder, name)} needs ${other} beside it`)
  }
  return {
    ca: authorities.map((name) => join(folder, name)),
    client: certificates.map((name) => ({
      certificate: join(folder, name),
      key: join(folder, name.replace(/cert$/, 'key')),
    })),
    skipVerify: false,
  }
}
