import { readFileSync } from 'node:fs'

let known: string | undefined

/** The version in package.json, as it was when it was first asked for: that of this program. */
export function packageVersion(): string {
  // Seen from dist/src/engine/.
  const file = new URL('../../../package.json', import.meta.url)
  known ??= (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version
  return known
}
