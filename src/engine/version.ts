import { readFileSync } from 'node:fs'

/** The version in package.json. */
export function packageVersion(): string {
  // Seen from dist/src/engine/.
  const file = new URL('../../../package.json', import.meta.url)
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version
}
