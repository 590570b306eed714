/** Changes to a JSON document that keep it one: what a mistaken or malicious engine could write. */
import type { Chance } from './mutate.ts'

export type Path = readonly (string | number)[]

/** Of every value in the document, its own first. */
export function pathsOf(value: unknown, path: Path = []): Path[] {
  if (typeof value !== 'object' || value === null) return [path]
  return [
    path,
    ...Object.entries(value).flatMap(([key, part]) =>
      pathsOf(part, [...path, Array.isArray(value) ? Number(key) : key]),
    ),
  ]
}

type Container = Record<string | number, unknown>

/** Values that have undone programs before. */
const ODD: readonly unknown[] = [
  null,
  true,
  false,
  0,
  -1,
  1,
  0.5,
  2 ** 31,
  2 ** 32,
  2 ** 53,
  -(2 ** 63),
  1.8446744073709552e19,
  1e300,
  '',
  '.',
  '..',
  '/',
  '//',
  '/proc',
  '/proc/self/fd/3',
  '/sys/fs/cgroup',
  '../../../..',
  'a\u0000b',
  '\n',
  '%s%n',
  '-1',
  '\ud800',
  'x'.repeat(300),
  `/${'d/'.repeat(2100)}`,
  [],
  {},
  [null],
  [[]],
  [''],
  { '': '' },
  { __proto__: 1 },
  JSON.parse('{"__proto__": {"a": 1}}'),
]

const STEPS_MAX = 3

export class Changes {
  readonly #chance: Chance
  readonly #words = new Map<string, unknown[]>()

  /** `words` are values that fields of the format have. */
  constructor(chance: Chance, words: readonly unknown[] = []) {
    this.#chance = chance
    for (const word of words) {
      const same = this.#words.get(kindOf(word)) ?? []
      this.#words.set(kindOf(word), [...same, word])
    }
  }

  /** A changed copy, and what was changed. */
  of(document: object): { document: unknown; what: string } {
    const copy: Container = structuredClone(document) as Container
    const what: string[] = []
    for (let steps = 1 + this.#chance.below(STEPS_MAX); steps > 0; steps--)
      what.push(this.#step(copy))
    return { document: copy, what: what.join(', ') }
  }

  #step(copy: Container): string {
    const paths = pathsOf(copy).filter((path) => path.length > 0)
    if (paths.length === 0) return 'nothing'
    const path = this.#chance.of(paths)
    const key = path.at(-1) ?? ''
    const parent = at(copy, path.slice(0, -1))
    const name = path.join('.')
    switch (this.#chance.below(9)) {
      case 0:
        if (Array.isArray(parent)) parent.splice(Number(key), 1)
        else delete parent[key]
        return `${name} removed`
      case 1: {
        const other = this.#chance.of(paths)
        parent[key] = structuredClone(at(copy, other))
        return `${name} = ${other.join('.')}`
      }
      case 2:
        if (!Array.isArray(parent)) return 'nothing'
        parent.splice(Number(key), 0, structuredClone(parent[Number(key)]))
        return `${name} doubled`
      case 3: {
        const value = parent[key]
        if (typeof value !== 'string') return 'nothing'
        parent[key] = this.#text(value)
        return `${name} = ${JSON.stringify(parent[key])}`
      }
      case 4:
      case 5:
      case 6: {
        // Of its own kind: what is wrong in other ways than that is found only so.
        const words = this.#words.get(kindOf(parent[key])) ?? []
        if (words.length === 0) return 'nothing'
        parent[key] = structuredClone(this.#chance.of(words))
        return `${name} = ${JSON.stringify(parent[key])?.slice(0, 100)}`
      }
      default:
        parent[key] = structuredClone(this.#chance.of(ODD))
        return `${name} = ${JSON.stringify(parent[key])?.slice(0, 100)}`
    }
  }

  #text(value: string): string {
    const at = this.#chance.below(value.length + 1)
    const part = this.#chance.of(['', '/', '..', '\u0000', ' ', ':', '=', '\n', 'é', '0'])
    return value.slice(0, at) + part + value.slice(at + this.#chance.below(2))
  }
}

function kindOf(value: unknown): string {
  return Array.isArray(value) ? 'list' : typeof value
}

function at(value: unknown, path: Path): Container {
  let found = value as Container
  for (const key of path) found = found[key] as Container
  return found
}
