import { Fault } from '../base/fault.ts'

/**
 * Go's path.Match as a Dockerfile's COPY means it, as a regular expression of a whole path: `*` and `?` end at a slash, `[a-z]`, `[^a]`, `\*`. With
 * `doubleStar` (.dockerignore) `**` is any number of directories.
 */
export function globPattern(pattern: string, options: { doubleStar: boolean }): RegExp {
  let source = ''
  for (let i = 0; i < pattern.length; i++) {
    const c = pattern[i] ?? ''
    if (c === '*' && options.doubleStar && pattern[i + 1] === '*') {
      i++
      if (pattern[i + 1] === '/') i++
      source += i + 1 >= pattern.length ? '.*' : '(?:.*/)?'
    } else if (c === '*') source += '[^/]*'
    else if (c === '?') source += '[^/]'
    else if (c === '[') {
      const set = /^\[(\^?)((?:\\.|[^\]\\])+)\]/.exec(pattern.slice(i))
      if (!set) throw bad(pattern)
      const body = (set[2] ?? '').replace(/\\?([^\w\s-])/g, '\\$1')
      source += `[${set[1]}${body}]`
      i += set[0].length - 1
    } else if (c === '\\') {
      const next = pattern[++i]
      if (next === undefined) throw bad(pattern)
      source += literal(next)
    } else source += literal(c)
  }
  try {
    return new RegExp(`^${source}$`, 'su')
  } catch {
    throw bad(pattern)
  }
}

const literal = (c: string): string => (/[\^$\\.*+?()[\]{}|/]/.test(c) ? `\\${c}` : c)

function bad(pattern: string): Fault {
  return new Fault('INVALID_ARGUMENT', `"${pattern}" is no valid pattern`)
}

/** Whether a path has to be looked for by its pattern. */
export function isGlob(path: string): boolean {
  return /[*?[\\]/.test(path)
}
