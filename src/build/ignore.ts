import { posix } from 'node:path'
import { globPattern } from './glob.ts'

/** What a .dockerignore leaves out of the context. Paths are relative to the context, without a slash at either end. */
export interface Ignore {
  (path: string): boolean
  /** Whether something below an ignored directory may be wanted again. */
  readonly hasExceptions: boolean
}

export const NOTHING_IGNORED: Ignore = Object.assign(() => false, { hasExceptions: false })

/** Docker's rules: the last line that matches a path, or a directory above it, decides; `!` takes it in again. */
export function parseIgnore(text: string): Ignore {
  const rules = text
    .replace(/^\ufeff/, '')
    .split('\n')
    .filter((line) => !line.startsWith('#'))
    .map((line) => line.trim())
    .filter((line) => line !== '')
    .map((line) => {
      const isException = line.startsWith('!')
      const path = posix.normalize((isException ? line.slice(1) : line).trim())
      return { isException, path: path.replace(/^\/+/, '').replace(/(.)\/$/, '$1') }
    })
    .filter(({ path }) => path !== '' && path !== '.')
    .map(({ isException, path }) => ({
      isException,
      pattern: globPattern(path, { doubleStar: true }),
    }))
  const ignores = (path: string): boolean => {
    const parts = path.split('/')
    const all = parts.map((_, i) => parts.slice(0, i + 1).join('/'))
    let isIgnored = false
    for (const { isException, pattern } of rules) {
      if (isIgnored !== isException) continue
      if (all.some((each) => pattern.test(each))) isIgnored = !isException
    }
    return isIgnored
  }
  return Object.assign(ignores, { hasExceptions: rules.some(({ isException }) => isException) })
}
