import { Fault } from '../base/fault.ts'

export interface Pattern {
  /** Whether the whole path is meant. */
  test(path: string): boolean
}

/** `one` is one character, the others are any number: `star` without a slash, `rest` of all, `directories` of whole names with the slashes behind them. */
type Part =
  | { readonly kind: 'one'; readonly has: (char: string) => boolean }
  | { readonly kind: 'star' | 'rest' | 'directories' }

/**
 * Go's path.Match as a Dockerfile's COPY means it: `*` and `?` end at a slash, `[a-z]`, `[^a]`, `\*`. With `doubleStar` (.dockerignore) `**` is any number
 * of directories. Patterns come with a context: the time of a test grows with the path's length times the pattern's, whatever they are.
 */
export function globPattern(pattern: string, options: { doubleStar: boolean }): Pattern {
  const parts: Part[] = []
  const chars = [...pattern]
  for (let i = 0; i < chars.length; i++) {
    const c = chars[i] ?? ''
    if (c === '*' && options.doubleStar && chars[i + 1] === '*') {
      i++
      if (chars[i + 1] === '/') i++
      parts.push({ kind: i + 1 >= chars.length ? 'rest' : 'directories' })
    } else if (c === '*') parts.push({ kind: 'star' })
    else if (c === '?') parts.push({ kind: 'one', has: (char) => char !== '/' })
    else if (c === '[') {
      const set = setAt(pattern, chars, i + 1)
      parts.push({ kind: 'one', has: set.has })
      i = set.end
    } else {
      const wanted = c === '\\' ? chars[++i] : c
      if (wanted === undefined) throw bad(pattern)
      parts.push({ kind: 'one', has: (char) => char === wanted })
    }
  }
  return { test: (path) => matches(parts, path) }
}

/** A set of characters from behind its `[` on; `end` is where its `]` is. */
function setAt(pattern: string, chars: readonly string[], start: number) {
  const isNegated = chars[start] === '^'
  const ranges: [number, number][] = []
  let i = isNegated ? start + 1 : start
  const take = (): number => {
    if (chars[i] === '\\') i++
    const point = chars[i++]?.codePointAt(0)
    if (point === undefined) throw bad(pattern)
    return point
  }
  while (chars[i] !== ']') {
    const low = take()
    let high = low
    if (chars[i] === '-' && chars[i + 1] !== ']') {
      i++
      high = take()
    }
    if (high < low) throw bad(pattern)
    ranges.push([low, high])
  }
  if (ranges.length === 0) throw bad(pattern)
  const has = (char: string): boolean => {
    const point = char.codePointAt(0) ?? 0
    return ranges.some(([low, high]) => low <= point && point <= high) !== isNegated
  }
  return { has, end: i }
}

/** All places in the pattern where one can be at a time: never more than it has parts. */
function matches(parts: readonly Part[], path: string): boolean {
  let here = new Set<number>()
  enter(parts, here, 0)
  for (const char of path) {
    if (here.size === 0) return false
    const next = new Set<number>()
    for (const at of here) {
      const part = parts[at]
      if (part === undefined) continue
      if (part.kind === 'one') {
        if (part.has(char)) enter(parts, next, at + 1)
      } else if (part.kind === 'directories') {
        // Out of it only behind a slash.
        next.add(at)
        if (char === '/') enter(parts, next, at + 1)
      } else if (part.kind === 'rest' || char !== '/') enter(parts, next, at)
    }
    here = next
  }
  return here.has(parts.length)
}

/** What is any number may be none. */
function enter(parts: readonly Part[], places: Set<number>, from: number): void {
  for (let at = from; ; at++) {
    places.add(at)
    const kind = parts[at]?.kind
    if (kind === undefined || kind === 'one') return
  }
}

function bad(pattern: string): Fault {
  return new Fault('INVALID_ARGUMENT', `"${pattern}" is no valid pattern`)
}

/** Whether a path has to be looked for by its pattern. */
export function isGlob(path: string): boolean {
  return /[*?[\\]/.test(path)
}
