/** Every kernel call of a launch fails once: the container says so or runs all the same, and nothing stays. */
import { spawnSync } from 'node:child_process'
import { readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { encodeContainer } from '../../src/wire/plan.ts'
import { bind, type Given, ID_MAPPINGS, MOUNTS, NEW, Place, probe } from '../lib/inside.ts'
import { needs } from '../lib/needs.ts'
import { traces } from '../lib/traces.ts'

needs('root', 'overlay', 'userns', 'program:g++')

const CALLS_MAX = 2000
const NATIVE = fileURLToPath(new URL('../../../native/', import.meta.url))
const MAIN = `
#include "${NATIVE}init/once.h"
int main(int, char** argv) { return berth::RunOnce(argv[1]); }
`

const place = new Place()
const clean = traces({ roots: [place.directory] })
const program = place.path('faults')

/** The code between clone and exec, built with BERTH_FAULTS. */
function build(): void {
  const main = place.path('main.cc')
  writeFileSync(main, MAIN)
  const sources = ['common', 'init'].flatMap((folder) =>
    readdirSync(join(NATIVE, folder))
      .filter((name) => name.endsWith('.cc'))
      .map((name) => join(NATIVE, folder, name)),
  )
  const flags = ['-std=c++20', '-O0', '-static', '-fno-exceptions', '-fno-rtti', '-DBERTH_FAULTS']
  const done = spawnSync('g++', [...flags, '-o', program, main, ...sources], { encoding: 'utf8' })
  assert.is(done.status, 0, done.stderr)
}

test('the test build compiles', build)

const shared = place.make('shared')
const bottom = place.make('bottom/in').replace(/\/in$/, '')
const full: Given = {
  ...probe('echo', 'ran'),
  hostname: 'faults',
  sysctls: [['net/ipv4/ip_unprivileged_port_start', '7']],
  maskedPaths: ['/proc/kcore', '/etc'],
  readonlyPaths: ['/proc/sys'],
  rootReadonly: true,
}
const cases: [string, Given][] = [
  ['one clone', full],
  [
    'a user namespace',
    {
      ...full,
      namespaces: [...NEW, 'user' as const, 'time' as const].map((type) => ({ type })),
      idMappings: ID_MAPPINGS,
      monotonicOffset: { seconds: 5n, nanoseconds: 0 },
    },
  ],
  ['a terminal and a reaper', { ...full, reaper: true, process: { terminal: true } }],
  [
    'a view of layers',
    {
      ...full,
      mounts: [...MOUNTS, bind('/in', '/view', { lower: [place.make('top'), bottom] })],
    },
  ],
]

for (const [name, given] of cases) {
  test(`${name}: the nth call fails, for every n`, () => {
    const plan = place.plan(given)
    const file = place.path('plan')
    writeFileSync(
      file,
      encodeContainer({ ...plan, mounts: [...plan.mounts, bind(shared, '/mnt')] }),
    )
    let failed = 0
    // All calls have had their turn when a run of many in a row is untouched.
    let untouched = 0
    for (let n = 1; untouched < 20; n++) {
      assert.ok(n < CALLS_MAX)
      const env = { ...process.env, BERTH_FAULT_NTH: String(n) }
      const done = spawnSync(program, [file], { env, encoding: 'utf8', timeout: 10_000 })
      const said = `call ${n}: ${done.status} ${done.signal} ${done.stdout}${done.stderr}`
      if (done.status === 0) {
        untouched++
        assert.is(done.stdout.trim(), 'ran', said)
      } else {
        failed++
        untouched = 0
        assert.ok(done.status === 125 || done.status === 126, said)
        assert.match(done.stderr, /^[a-z ]+: .*Input\/output error\n$/, said)
      }
    }
    assert.ok(failed > 50)
  })
}

test('nothing is left behind', async () => {
  place.remove()
  await clean()
})

test.run()
