/** Which test files there are, by kind. */
import { existsSync, readdirSync } from 'node:fs'
import { join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The repository, seen from dist/scripts/. */
export const REPOSITORY = fileURLToPath(new URL('../../', import.meta.url))

export interface Kind {
  readonly name: string
  /** Below test/. */
  readonly path: string
  /** How many files may run at once: 1 for those that look at what the whole machine has. */
  readonly parallel: number
  /** Others begin when these have ended: other engines leave groups for a while, which are no traces of the files that would run then. */
  readonly first?: boolean
  /** Whether its files touch nothing but what is their own, so that those of other kinds may run beside them. */
  readonly beside?: boolean
  readonly limitMs: number
}

export const KINDS: readonly Kind[] = [
  { name: 'tidy', path: 'tidy.test.ts', parallel: 1, first: true, limitMs: 60_000 },
  { name: 'unit', path: 'unit', parallel: 2, first: true, limitMs: 120_000 },
  { name: 'oci', path: 'oci', parallel: 1, first: true, limitMs: 300_000 },
  { name: 'kernel', path: 'kernel', parallel: 1, limitMs: 300_000 },
  { name: 'hostile', path: 'hostile', parallel: 1, limitMs: 300_000 },
  { name: 'cli', path: 'cli', parallel: 1, limitMs: 600_000 },
  { name: 'cri', path: 'cri', parallel: 1, beside: true, limitMs: 600_000 },
  { name: 'vm', path: 'vm', parallel: 1, limitMs: 600_000 },
]

export interface TestFile {
  /** Relative to the repository: test/unit/base/undo.test.ts. */
  readonly source: string
  /** What Node runs. */
  readonly built: string
  readonly kind: Kind
}

/** Kinds and paths of files (source or built), as given on the command line; nothing given means all kinds. */
export function selectFiles(names: readonly string[]): TestFile[] {
  const chosen = names.length > 0 ? names : KINDS.map((kind) => kind.name)
  return chosen.flatMap((name) => {
    const kind = KINDS.find((k) => k.name === name)
    return kind ? filesOf(kind) : [fileNamed(name)]
  })
}

/** By the sources: dist/ may still hold what was built from a file that is gone. */
function filesOf(kind: Kind): TestFile[] {
  if (kind.path.endsWith('.ts')) return [testFile(join('test', kind.path), kind)]
  const directory = join(REPOSITORY, 'test', kind.path)
  if (!existsSync(directory)) return []
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.test.ts'))
    .sort()
    .map((name) => testFile(join('test', kind.path, name), kind))
}

function fileNamed(name: string): TestFile {
  const source = relative(REPOSITORY, resolve(name))
    .replace(/^dist\//, '')
    .replace(/\.js$/, '.ts')
  const kind = KINDS.find(
    (k) => join('test', k.path) === source || source.startsWith(`test/${k.path}/`),
  )
  if (!kind || !existsSync(join(REPOSITORY, source))) {
    const kinds = KINDS.map((k) => k.name).join(', ')
    throw new Error(`${name} is neither a kind of test (${kinds}) nor a test file`)
  }
  return testFile(source, kind)
}

function testFile(source: string, kind: Kind): TestFile {
  return { source, built: join(REPOSITORY, 'dist', source.replace(/\.ts$/, '.js')), kind }
}
