/** The rules of this repository that a reader would otherwise have to remember. */
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { dirname, join, normalize, relative } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { criTypes } from '../scripts/cri-types.ts'
import { REPOSITORY } from './lib/images.ts'

const ROOT = REPOSITORY.replace(/\/$/, '')
const NOT_OURS = /^(node_modules|dist|build|\.git)(\/|$)/

const files = listFiles('')
const sources = files.filter((path) => path.startsWith('src/') && path.endsWith('.ts'))
const scripts = files.filter((path) => path.endsWith('.ts'))
const tests = files.filter((path) => path.endsWith('.test.ts'))
const natives = files.filter((path) => /^(native|rootfs)\/.*\.(cc|h)$/.test(path))

function listFiles(directory: string): string[] {
  return readdirSync(join(ROOT, directory)).flatMap((name) => {
    const path = join(directory, name)
    if (NOT_OURS.test(path)) return []
    return statSync(join(ROOT, path)).isDirectory() ? listFiles(path) : [path]
  })
}

function read(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8')
}

/** Fails with every place at once: `file:line: what`. */
function none(places: readonly string[]): void {
  if (places.length > 0) assert.unreachable(`\n${places.join('\n')}`)
}

/** The lines of the files that match, as places. */
function matches(paths: readonly string[], pattern: RegExp, rule: string): string[] {
  return paths.flatMap((path) =>
    read(path)
      .split('\n')
      .flatMap((line, i) =>
        pattern.test(line) ? [`${path}:${i + 1}: ${rule}: ${line.trim()}`] : [],
      ),
  )
}

interface Import {
  readonly line: number
  /** A package, `node:` module, or path relative to the repository. */
  readonly what: string
}

function imports(path: string): Import[] {
  const text = read(path)
  const pattern =
    /(?:^|\n)(?:import|export)\b[^'"`;]*?from '([^']+)'|(?:^|\n)import '([^']+)'|\bimport\('([^']+)'\)/g
  return [...text.matchAll(pattern)].map((match) => {
    const what = match[1] ?? match[2] ?? match[3] ?? ''
    return {
      line: text.slice(0, match.index + match[0].length).split('\n').length,
      what: what.startsWith('.') ? normalize(join(dirname(path), what)) : what,
    }
  })
}

function folderOf(path: string): string | undefined {
  if (path === 'src/main.ts' || path === 'src/main-oci.ts') return 'cli'
  return /^src\/([^/]+)\//.exec(path)?.[1]
}

/** The table "Layers of src/" in docs/architecture.md. */
function levels(): Map<string, number> {
  const rows = read('docs/architecture.md').matchAll(/^\| (\d) \| `([a-z]+)\/` \|/gm)
  return new Map([...rows].map(([, level, folder]) => [folder ?? '', Number(level)]))
}

test('every folder of src has a level in docs/architecture.md, and no other has', () => {
  const folders = [...new Set(sources.map(folderOf))].filter((f) => f !== undefined).sort()
  assert.equal(folders, [...levels().keys()].sort())
})

test('a folder imports only from lower levels', () => {
  const level = levels()
  none(
    sources.flatMap((path) => {
      const from = folderOf(path)
      if (from === undefined) return []
      return imports(path).flatMap(({ line, what }) => {
        const to = folderOf(what)
        if (to === undefined || to === from) return []
        if ((level.get(to) ?? 0) < (level.get(from) ?? 0)) return []
        return [`${path}:${line}: ${from}/ must not import ${to}/`]
      })
    }),
  )
})

test('src imports nothing from outside src', () => {
  none(
    sources.flatMap((path) =>
      imports(path)
        .filter(({ what }) => /^(test|scripts|rootfs|bench)\//.test(what))
        .map(({ line, what }) => `${path}:${line}: ${what}`),
    ),
  )
})

/** Where a package may be imported, so that it can be replaced in a day. */
const PACKAGES: Readonly<Record<string, readonly string[]>> = {
  tar: ['layer'],
  fzstd: ['layer'],
  commander: ['cli', 'oci'],
  'smol-toml': ['image', 'network', 'cri'],
  '@grpc/grpc-js': ['cri'],
  '@grpc/proto-loader': ['cri'],
  protobufjs: ['cri', 'oci'],
  ws: ['stream'],
  'prom-client': ['cri'],
  // Credential helpers of registries; hooks, and ps(1).
  'node:child_process': ['image', 'oci'],
}

test('each package is imported in its own folder only', () => {
  none(
    sources.flatMap((path) =>
      imports(path).flatMap(({ line, what }) => {
        if (what.startsWith('src/')) return []
        const allowed = PACKAGES[what]
        if (allowed ? allowed.includes(folderOf(path) ?? '') : what.startsWith('node:')) return []
        const where = allowed ? `only ${allowed.join(', ')} may` : 'no folder may'
        return [`${path}:${line}: imports ${what}, which ${where}`]
      }),
    ),
  )
})

test('every dependency is imported or part of the build', () => {
  const manifest = JSON.parse(read('package.json')) as { dependencies: Record<string, string> }
  const builders = scripts.filter((path) => path.startsWith('scripts/'))
  const used = new Set(
    [...sources, ...builders].flatMap((path) => imports(path).map(({ what }) => what)),
  )
  const ofTheBuild = ['node-addon-api', 'node-gyp', 'typescript', '@types/node', '@types/ws']
  const unused = Object.keys(manifest.dependencies).filter((name) => !used.has(name))
  assert.equal(
    unused.filter((name) => !ofTheBuild.includes(name)),
    [],
  )
})

test('the types of the CRI are those of cri.proto', () => {
  assert.is(read('src/spec/cri.ts'), criTypes())
})

test('only kernel/binding.ts loads the addon', () => {
  const others = sources.filter((path) => path !== 'src/kernel/binding.ts')
  none(matches(others, /createRequire|\.node['"]/, 'loads a native module'))
})

test('the numbers of the wire are the same on both sides', () => {
  const camelCase = (name: string) =>
    name
      .replace(/^[A-Z]/, (c) => c.toLowerCase())
      .replace(/-(\w)/g, (_, c: string) => c.toUpperCase())
  const numbers = (path: string, pattern: RegExp) =>
    [...read(path).matchAll(pattern)].map(([, name = '', value]) => `${camelCase(name)} = ${value}`)
  const ours = numbers('src/wire/tags.ts', /(?<=[\s{]'?)([\w-]+)'?: (\d+)(?=,| \})/g)
  const theirs = numbers('native/common/tags.h', /\bk(\w+) = (\d+)/g)
  assert.ok(ours.length > 100)
  none([
    ...ours.filter((tag) => !theirs.includes(tag)).map((tag) => `only in tags.ts: ${tag}`),
    ...theirs.filter((tag) => !ours.includes(tag)).map((tag) => `only in tags.h: ${tag}`),
  ])
})

test('the addon exports what binding.ts declares', async () => {
  const declared = /export interface Binding \{([\s\S]*?)\n\}/.exec(read('src/kernel/binding.ts'))
  const names = [...(declared?.[1] ?? '').matchAll(/^ {2}(\w+)\(/gm)].map(([, name]) => name)
  const { binding } = await import('../src/kernel/binding.ts')
  assert.equal(Object.keys(binding).sort(), names.sort())
})

test('every test file runs its suites', () => {
  // Or those of another file, under another condition.
  none(
    tests
      .filter((path) => !/\.run\(\)|^await import\('\.\/[\w-]+\.test\.ts'\)/m.test(read(path)))
      .map((path) => `${path}: no .run()`),
  )
})

test('no test is left out or preferred in the source', () => {
  none(matches(tests, /\b(test|suite)\.(skip|only)\(/, 'use needs() with a reason'))
})

test('unit tests mirror src', () => {
  const places = [
    ...new Set(files.flatMap((path) => /^test\/unit\/([^/]+)\//.exec(path)?.[1] ?? [])),
  ]
  assert.equal(
    places.filter(
      (name) => !existsSync(join(ROOT, 'src', name)) && !['scripts', 'bench'].includes(name),
    ),
    [],
  )
})

test('nothing is left to do in a comment', () => {
  // Written apart, so that this line is no finding.
  const words = new RegExp(
    `\\b(${['TO' + 'DO', 'FIX' + 'ME', 'XX' + 'X', 'HA' + 'CK'].join('|')})\\b`,
  )
  none(matches([...scripts, ...natives], words, 'make it an issue'))
})

test('only the command line prints', () => {
  const others = sources.filter((path) => folderOf(path) !== 'cli')
  none(matches(others, /\bconsole\.|\bprocess\.(stdout|stderr)\b/, 'prints'))
})

test('only the command line ends the process or sets its exit code', () => {
  const others = sources.filter((path) => folderOf(path) !== 'cli')
  none(matches(others, /\bprocess\.(exit\(|exitCode)/, 'ends the process'))
})

test('there is no default export', () => {
  none(matches(scripts, /^export default\b/, 'name it'))
})

test('paths of this machine are not written down', () => {
  const text = [
    ...scripts,
    ...natives,
    ...files.filter((path) => /\.(md|json|gyp|js|sh)$/.test(path)),
  ]
  // Where the checkout lies in a folder of the system, its path says nothing.
  const place = dirname(ROOT)
  if (place === '/' || place === '/tmp') return
  none(text.filter((path) => read(path).includes(`${place}/`)).map((path) => `${path}: ${place}/`))
})

test('native programs do not include each other', () => {
  // The monitor forks and runs init: that one way is the design (docs/architecture.md, "Programs").
  const allowed: Readonly<Record<string, readonly string[]>> = {
    addon: ['common', 'layer'],
    common: [],
    front: ['common'],
    hold: ['common'],
    init: ['common'],
    launch: ['common', 'init'],
    layer: [],
    monitor: ['common', 'init'],
    pause: ['common'],
  }
  none(
    natives.flatMap((path) => {
      const from = /^native\/([^/]+)\//.exec(path)?.[1]
      if (from === undefined) return []
      return [...read(path).matchAll(/^#include "([^"]+)"/gm)].flatMap(([, name = '']) => {
        const to = relative('native', join(dirname(path), name)).split('/')[0] ?? ''
        if (to === from || allowed[from]?.includes(to)) return []
        return [`${path}: includes ${name}`]
      })
    }),
  )
})

test('docs/README.md names every document', () => {
  const index = read('docs/README.md')
  const documents = files.filter(
    (path) => /^docs\/[^/]+\.md$/.test(path) && path !== 'docs/README.md',
  )
  none(documents.filter((path) => !index.includes(`(${path.slice('docs/'.length)})`)))
})

test('links between documents lead to files', () => {
  const documents = files.filter((path) => path.endsWith('.md'))
  none(
    documents.flatMap((path) =>
      [...read(path).matchAll(/\]\(([^)#:\s]+)(?:#[^)]*)?\)/g)].flatMap(([, to = '']) =>
        existsSync(join(ROOT, dirname(path), to)) ? [] : [`${path}: ${to} does not exist`],
      ),
    ),
  )
})

test('docs/hostile.md names claims that are made', () => {
  const rows = [...read('docs/hostile.md').matchAll(/\]\(\.\.\/(test\/[^)]+\.ts)\) “([^”]+)”/g)]
  assert.ok(rows.length > 40)
  none(
    rows.flatMap(([, path = '', claim = '']) =>
      read(path).replaceAll("\\'", "'").includes(claim) ? [] : [`${path}: no claim “${claim}”`],
    ),
  )
})

test('scripts of the shell are free of errors', () => {
  for (const path of files.filter((p) => p.endsWith('.sh') || p === '.ci/run')) {
    execFileSync('bash', ['-n', join(ROOT, path)])
  }
})

test.run()
