/** native/front is built with musl where that is installed, and with glibc elsewhere: it does and says the same with both. */
import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { eventually } from '../lib/eventually.ts'
import { REPOSITORY } from '../lib/images.ts'
import { needs } from '../lib/needs.ts'
import { ociOfFile } from '../lib/oci.ts'
import { testDirectory } from '../lib/traces.ts'

const MUSL = `${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-musl`
needs('root', 'cgroup2', 'program:busybox', `file:/usr/lib/${MUSL}/libc.a`)

const { oci, nothingIsLeft } = ociOfFile()
const directory = testDirectory()
const at = (name: string): string => join(directory, name)
function make(name: string): string {
  mkdirSync(at(name), { recursive: true })
  return at(name)
}
const NATIVE = join(REPOSITORY, 'native')
const LIBRARIES = ['glibc', 'musl'] as const
type Library = (typeof LIBRARIES)[number]

/** Prints what native/common and words.cc have of their own, so that it is nobody's library's. */
const WORDS = `
#include <stdio.h>
#include "${NATIVE}/common/errors.h"
#include "${NATIVE}/common/signals.h"
#include "${NATIVE}/front/words.h"

int Library() {
#ifdef __GLIBC__
  for (int i = 0; i < 134; i++) {
    const char* text = strerrordesc_np(i);
    if (strcmp(berth::ErrorText(i), text ? text : "unknown error") != 0) return printf("errno %d is otherwise\\n", i);
  }
  for (int i = 1; i < 32; i++) {
    if (berth::SimpleSignal(sigabbrev_np(i)) != i) return printf("signal %d is otherwise\\n", i);
  }
#endif
  return 0;
}

void PrintSignals() {
  char line[256];
  FILE* status = fopen("/proc/self/status", "r");
  while (fgets(line, sizeof(line), status)) {
    if (strncmp(line, "SigBlk", 6) == 0 || strncmp(line, "SigIgn", 6) == 0) fputs(line, stdout);
  }
  fclose(status);
}

int main(int argc, char** argv) {
  Library();
  for (int i = -1; i < 140; i++) puts(berth::ErrorText(i));
  for (int i = 1; i < argc; i++) printf("%s %d\\n", argv[i], berth::SimpleSignal(argv[i]));
  const unsigned long ignored[4] = {1};
  for (int i = 1; i <= 64; i++) syscall(SYS_rt_sigaction, i, ignored, nullptr, 8);
  PrintSignals();
  berth::DefaultSignals();
  PrintSignals();
  sigset_t all;
  berth::FillSignals(&all);
  sigprocmask(SIG_SETMASK, &all, nullptr);
  PrintSignals();
}
`

function flagsOf(word: string): string[] {
  const { stdout } = spawnSync('sh', [join(NATIVE, 'musl.sh'), word], { encoding: 'utf8' })
  return stdout.split('\n').filter(Boolean)
}

/** `build/Release` in the name: a front finds its package by where it is. */
function build(library: Library, name: string, sources: readonly string[]): string {
  const program = join(make(`${library}/build/Release`), name)
  const isMusl = library === 'musl'
  const [compile, begin, end] = isMusl ? ['compile', 'begin', 'end'].map(flagsOf) : [[], [], []]
  const flags = [
    ...['-std=c++20', '-O0', '-static', '-fno-exceptions', '-fno-rtti'],
    ...['-fno-threadsafe-statics', '-D__GLIBC_PREREQ(major,minor)=0', ...(compile ?? [])],
  ]
  const used = isMusl ? flags : flags.filter((flag) => !flag.startsWith('-D'))
  const args = [...used, ...(begin ?? []), ...sources, ...(end ?? []), '-o', program]
  const done = spawnSync('g++', args, { encoding: 'utf8' })
  assert.is(done.status, 0, done.stderr)
  return program
}

function filesOf(folder: string): string[] {
  const names = readdirSync(join(NATIVE, folder)).filter((name) => name.endsWith('.cc'))
  return names.map((name) => join(NATIVE, folder, name))
}

const fronts = new Map<Library, string>()

test('native/musl.sh makes programs of it, and both fronts compile', () => {
  assert.equal(flagsOf('use'), ['yes'])
  for (const library of LIBRARIES) {
    const program = build(library, 'berth-front', filesOf('front'))
    symlinkSync(program, join(at(library), 'berth-oci'))
    fronts.set(library, join(at(library), 'berth-oci'))
  }
  const text = (library: Library) => readFileSync(fronts.get(library) ?? '', 'latin1')
  assert.match(text('glibc'), 'GLIBC_TUNABLES')
  assert.not.match(text('musl'), 'GLIBC_TUNABLES')
})

test('errors, names of signals and sets of them are the same, and those of glibc', () => {
  const main = at('words.cc')
  writeFileSync(main, WORDS)
  const words = [
    'TERM',
    'sigterm',
    'SIGKILL',
    'rtmin',
    'SIGRTMIN',
    'IO',
    'CLD',
    '9',
    '31',
    '32',
    '0',
    '',
    'SIG',
  ]
  const [glibc, musl] = LIBRARIES.map((library) => {
    const program = build(library, 'words', [main, join(NATIVE, 'front/words.cc')])
    return spawnSync(program, words, { encoding: 'utf8' })
  })
  assert.is(glibc?.status, 0)
  assert.not.match(glibc?.stdout ?? '', 'otherwise')
  assert.match(glibc?.stdout ?? '', 'Too many levels of symbolic links\n')
  assert.match(musl?.stdout ?? '', /SigIgn:\t0{16}\n$/)
  // But for glibc's own two, for its threads.
  const comparable = (text = '') => text.replace(/SigBlk:\tf{7}[ef][7f]ffbfeff/, 'SigBlk:\tall')
  assert.match(comparable(musl?.stdout), 'SigBlk:\tall')
  assert.is(comparable(musl?.stdout), comparable(glibc?.stdout))
})

test('a Node that cannot be executed is told in the same words', () => {
  const bin = make('bin')
  const said = (env: Record<string, string>) =>
    LIBRARIES.map((library) => {
      const { status, stdout, stderr } = spawnSync(fronts.get(library) ?? '', ['list', 'x y'], {
        encoding: 'utf8',
        env: { BERTH_STATE: at('none'), ...env },
      })
      return { status, stdout, stderr: stderr.replaceAll(at(library), 'PACKAGE') }
    })
  const same = (env: Record<string, string>, status: number, text: string) => {
    const [glibc, musl] = said(env)
    assert.equal(musl, glibc)
    assert.is(musl?.status, status)
    assert.match(`${musl?.stderr}${musl?.stdout}`, text)
  }
  same({ PATH: bin }, 127, 'berth-oci: cannot execute node: No such file or directory\n')
  writeFileSync(join(bin, 'node'), '#!/bin/sh\necho "$1 $#"\nexit 3\n')
  same({ PATH: bin }, 126, 'cannot execute node: Permission denied\n')
  chmodSync(join(bin, 'node'), 0o755)
  same({ PATH: `${at('none')}:${bin}` }, 3, '--v8-pool-size=1 5\n')
  const loop = make('loop')
  symlinkSync('node', join(loop, 'node'))
  same({ PATH: loop }, 126, 'cannot execute node: Too many levels of symbolic links\n')
})

test('each does what the other has begun, without Node, and state tells what Node tells', async () => {
  const said = (library: Library, ...words: string[]) => {
    const env = { PATH: at('none'), BERTH_STATE: at('none') }
    const args = ['--root', oci.root, ...words]
    const done = spawnSync(fronts.get(library) ?? '', args, { encoding: 'utf8', env })
    assert.is(done.status, 0, `${library} ${words.join(' ')}: ${done.stderr}`)
    return done.stdout
  }
  const states = (id: string, status: string): void => {
    const node = spawnSync(
      process.execPath,
      [join(REPOSITORY, 'bin/berth-oci.cjs'), '--root', oci.root, 'state', id],
      { encoding: 'utf8' },
    )
    assert.is(JSON.parse(node.stdout).status, status)
    for (const library of LIBRARIES) assert.is(said(library, 'state', id), node.stdout, library)
  }
  for (const [one, other] of [LIBRARIES, [...LIBRARIES].reverse()] as [Library, Library][]) {
    oci.bundle(one, 'exec sleep 1000', (spec) => {
      spec.annotations = { 'a"': 'x\\y\n', b: 'ü' }
    })
    assert.is((await oci.create(one)).code, 0, oci.output(one))
    states(one, 'created')
    said(one, 'start', one)
    states(one, 'running')
    said(other, 'kill', one, 'KILL')
    await eventually('it has ended', () => said(one, 'state', one).includes('"stopped"'))
    states(one, 'stopped')
    said(one, 'delete', one)
    assert.equal(readdirSync(oci.root), [])
  }
})

test('nothing is left behind', async () => {
  rmSync(directory, { recursive: true })
  await nothingIsLeft()
})

test.run()
