/** Debian's archive, as this machine's apt is configured with it, of any release and without installing anything. */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** apt-get with lists and archives of its own below a directory. */
export class PrivateApt {
  readonly #directory: string
  readonly #options: readonly string[]

  /** `kind` is deb for programs, deb-src for sources. */
  constructor(directory: string, kind: 'deb' | 'deb-src', release: string) {
    this.#directory = directory
    for (const name of ['apt/lists/partial', 'apt/archives/partial']) {
      mkdirSync(join(directory, name), { recursive: true })
    }
    const list = join(directory, 'apt/sources.list')
    writeFileSync(list, `${kind} [${debianKeys()}] ${debianArchive()} ${release} main\n`)
    this.#options = [
      `Dir::Etc::sourcelist=${list}`,
      'Dir::Etc::sourceparts=-',
      `Dir::State::lists=${directory}/apt/lists`,
      `Dir::Cache=${directory}/apt`,
      'APT::Sandbox::User=root',
      // A release that is not out yet may have a Release file past its date on a mirror.
      'Acquire::Check-Valid-Until=false',
      'Acquire::Languages=none',
      'APT::Get::List-Cleanup=false',
    ].flatMap((option) => ['-o', option])
    this.get('update')
  }

  /** Runs apt-get in the directory; gives its output. */
  get(...args: string[]): string {
    return run(this.#directory, 'apt-get', ...this.#options, '-qq', ...args)
  }

  /** The upstream part of a source package, checked against the signed index; its path. */
  upstreamSource(name: string): string {
    const lines = this.get('source', '--print-uris', name)
    const [, uri, file, hash] = /^'([^']+)' (\S+\.orig\.tar\.\S+) \d+ (\S+)$/m.exec(lines) ?? []
    if (uri === undefined || file === undefined || hash === undefined) {
      throw new Error(`apt knows no source of ${name}: ${lines}`)
    }
    // Not by apt-get, which wants the package's other parts too.
    run(this.#directory, '/usr/lib/apt/apt-helper', '-qq', 'download-file', uri, file, hash)
    return join(this.#directory, file)
  }
}

function debianArchive(): string {
  const format = '$(CREATED_BY)|$(ORIGIN)|$(CODENAME)|$(REPO_URI)'
  const lines = run('/', 'apt-get', 'indextargets', '--format', format).split('\n')
  for (const line of lines) {
    const [by, origin, codename = '', uri = ''] = line.split('|')
    // Updates and security are other archives, without all packages.
    if (by === 'Packages' && origin === 'Debian' && !codename.includes('-')) return uri
  }
  throw new Error('apt knows no Debian archive')
}

function debianKeys(): string {
  return 'signed-by=/usr/share/keyrings/debian-archive-keyring.gpg'
}

/** A program's output; what it complains of is shown. */
export function run(cwd: string, program: string, ...args: string[]): string {
  return execFileSync(program, args, {
    cwd,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  })
}

/** The machine's own patchelf, or its package's, unpacked beside. */
export function patchelf(work: string): string {
  const installed = '/usr/bin/patchelf'
  if (existsSync(installed)) return installed
  const old = join(work, 'old')
  run(old, 'apt-get', '-qq', 'download', 'patchelf')
  for (const file of debs(old)) run(old, 'dpkg-deb', '-x', file, '.')
  return join(old, installed)
}

export function debs(directory: string): string[] {
  return readdirSync(directory).filter((name) => name.endsWith('.deb'))
}

export function multiarch(directory: string): string {
  const name = readdirSync(directory).find((n) => n.endsWith('-linux-gnu'))
  if (!name) throw new Error(`no library folder in ${directory}`)
  return name
}
