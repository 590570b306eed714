/**
 * The validation suite of the runtime-spec (github.com/opencontainers/runtime-tools, folder validation), from Debian's source of it.
 *
 *   node dist/scripts/validation.js build    gets the source by apt and builds it with Debian's Go into build/validation
 *   node dist/scripts/validation.js table    runs it against berth-oci, crun and runc in the machine of scripts/vm.ts; writes docs/conformance.md
 */

import { execFileSync } from 'node:child_process'
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseReport, SUITE, tableOf } from '../test/lib/validation.ts'
import { PrivateApt, run } from './apt.ts'
import { REPOSITORY } from './files.ts'
import { findMachine, runInMachine } from './vm.ts'

const PACKAGE = 'golang-github-opencontainers-runtime-tools'
/** The release whose source is taken: its dependencies are in Debian 12 as programs' sources (packages golang-…-dev). */
const RELEASE = 'trixie'
const IMPORT_PATH = 'github.com/opencontainers/runtime-tools'
/** A package that Debian has not; ours stands in (test/oci/validation). */
const TAP_PATH = 'github.com/mndrix/tap-go'
const TAP_SOURCE = join(REPOSITORY, 'test/oci/validation')
const SOURCES = '/usr/share/gocode'
const TABLE_LIMIT_MS = 3_600_000

function build(): void {
  const work = mkdtempSync(join(tmpdir(), 'berth-validation-'))
  try {
    const path = join(work, 'go')
    const source = join(path, 'src', IMPORT_PATH)
    mkdirSync(source, { recursive: true })
    const archive = new PrivateApt(work, 'deb-src', RELEASE).upstreamSource(PACKAGE)
    run(work, 'tar', '-xf', archive, '-C', source, '--strip-components=1')
    cpSync(TAP_SOURCE, join(path, 'src', TAP_PATH), { recursive: true })
    const made = join(work, 'made')
    mkdirSync(join(made, 'tests'), { recursive: true })
    const go = (...args: string[]): void => {
      execFileSync('go', ['build', '-ldflags=-s -w', ...args], {
        cwd: source,
        // As programs of Debian are built: packages from their folder, nothing from the network. Static, since they run in containers.
        env: {
          PATH: process.env['PATH'],
          HOME: work,
          GO111MODULE: 'off',
          GOPATH: `${path}:${SOURCES}`,
          GOCACHE: join(work, 'cache'),
          GOFLAGS: '-buildvcs=false',
          CGO_ENABLED: '0',
        },
        stdio: 'inherit',
      })
    }
    go('-o', join(made, 'runtimetest'), './cmd/runtimetest')
    go('-o', join(made, 'tests/'), './validation/...')
    const root = `rootfs-${process.arch === 'x64' ? 'amd64' : process.arch}.tar.gz`
    copyFileSync(join(source, root), join(made, root))
    rmSync(SUITE, { recursive: true, force: true })
    mkdirSync(join(SUITE, '..'), { recursive: true })
    cpSync(made, SUITE, { recursive: true })
    process.stdout.write(`${readdirSync(join(SUITE, 'tests')).length} tests in ${SUITE}\n`)
  } finally {
    // Go's cache is read-only to its owner in places.
    rmSync(work, { recursive: true, force: true })
  }
}

async function table(): Promise<void> {
  const machine = findMachine()
  if (!machine) throw new Error('no User Mode Linux: install the package user-mode-linux')
  if (!existsSync(SUITE)) build()
  const ended = await runInMachine(
    machine,
    [process.execPath, 'dist/test/lib/validation.js', 'berth-oci', 'crun', 'runc'],
    { limitMs: TABLE_LIMIT_MS, show: false },
  )
  if (ended.code !== 0) throw new Error(`the machine has failed: ${ended.output.slice(-2000)}`)
  const text = tableOf(parseReport(ended.output))
  const file = join(REPOSITORY, 'docs/conformance.md')
  writeFileSync(`${file}.new`, text)
  renameSync(`${file}.new`, file)
  process.stdout.write(text)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [command] = process.argv.slice(2)
  if (command === 'build') build()
  else if (command === 'table') await table()
  else throw new Error(`build or table, not ${command}`)
}
