import { statSync } from 'node:fs'
import { uptime } from 'node:os'

/**
 * Whether a record is one whose bytes were still in memory when the power went: a file system that has its name on the disk before its content shows an empty
 * file then. It was never on record, like one that was just being made, and nothing of it is alive. Empty since this boot is damage.
 */
export function isCutOff(record: string): boolean {
  const found = statSync(record, { throwIfNoEntry: false })
  return found?.size === 0 && found.mtimeMs < Date.now() - uptime() * 1000
}
