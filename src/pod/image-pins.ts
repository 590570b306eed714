import { Fault } from '../base/fault.ts'
import { familiarName, formatReference, parseReference } from '../image/reference.ts'

/** Characters of a pattern: as many as the longest name has. */
const PATTERN_LENGTH_MAX = 640

/** Whether an image of these full names (tags and digests) is to stay on the node. */
export type Pinned = (names: readonly string[]) => boolean

/**
 * The administrator's list of images that kubelet's collection should pass by: a name, or a pattern in which `*` stands for any characters,
 * slashes too. Both full and short names are looked at (`nginx` is `docker.io/library/nginx:latest`).
 */
export function pinnedBy(patterns: readonly string[]): Pinned {
  const tests = patterns.map(testOf)
  return (names) => {
    const spellings = names.flatMap((name) => [name, familiarName(name)])
    return tests.some((test) => spellings.some(test))
  }
}

function testOf(pattern: string): (name: string) => boolean {
  if (pattern === '' || pattern.length > PATTERN_LENGTH_MAX) {
    throw new Fault(
      'INVALID_ARGUMENT',
      `a pattern of pinned images has 1 to ${PATTERN_LENGTH_MAX} characters, not ${pattern.length}`,
    )
  }
  if (pattern.includes('*')) return (name) => matches(name, pattern.split('*'))
  const full = formatReference(parseReference(pattern))
  return (name) => name === full
}

/** Leftmost places are enough: whatever matches at all matches with each part as early as it can be. */
function matches(name: string, parts: readonly string[]): boolean {
  const [first = '', ...rest] = parts
  const last = rest.pop() ?? ''
  if (!name.startsWith(first)) return false
  let at = first.length
  for (const part of rest) {
    const found = name.indexOf(part, at)
    if (found < 0) return false
    at = found + part.length
  }
  return name.length - last.length >= at && name.endsWith(last)
}
