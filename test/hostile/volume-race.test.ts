/** CVE-2019-19921, CVE-2021-30465, CVE-2024-45310: somebody with the same volume swaps directories and links while a container is made. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { bind, fresh, MOUNTS, Place, probe, type Ran } from '../lib/inside.ts'
import { needs } from '../lib/needs.ts'
import { traces } from '../lib/traces.ts'

needs('root', 'overlay', 'program:python3')

const ROUNDS = 40
const place = new Place()
const clean = traces({ roots: [place.directory] })
const outside = place.make('outside')
const volume = place.make('volume')
const other = place.make('other')
writeFileSync(join(outside, 'secret'), 'secret\n')
writeFileSync(join(other, 'mark'), 'other\n')

/** Exchanges the directory and the link (renameat2(2), RENAME_EXCHANGE), as fast as it can. */
const SWAP = `
import ctypes, os, sys
os.chdir(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
print("ready", flush=True)
while os.getppid() == int(sys.argv[2]):
    for i in range(1000):
        if libc.renameat2(-100, b"a", -100, b"l", 2) != 0: sys.exit("renameat2: %d" % ctypes.get_errno())
`

async function racing(to: string, attempt: () => Ran): Promise<Ran[]> {
  const directory = place.make(`volume/${readdirSync(volume).length}`)
  place.make(`${directory.slice(place.directory.length + 1)}/a/deep`)
  symlinkSync(to, join(directory, 'l'))
  const swapper: ChildProcess = spawn('python3', ['-c', SWAP, directory, String(process.pid)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  assert.ok(swapper.stdout)
  await once(swapper.stdout, 'data')
  const ended = once(swapper, 'exit')
  const results: Ran[] = []
  try {
    for (let i = 0; i < ROUNDS; i++) results.push(attempt())
    assert.is(swapper.exitCode, null)
  } finally {
    swapper.kill('SIGKILL')
    await ended
  }
  place.reset()
  return results
}

const LINKS: [name: string, to: string][] = [
  ['an absolute link to a directory of the host', outside],
  ['a relative link to it', `../../../../../../../../../..${outside}`],
  ['a link to the root of the host', '/'],
]
for (const [name, to] of LINKS) {
  test(`a mount below a volume in which ${name} comes and goes stays inside`, async () => {
    const at = `/vol/${readdirSync(volume).length}/a`
    const mounts = [
      ...MOUNTS,
      bind(volume, '/vol'),
      bind(other, at),
      fresh('tmpfs', `${at}/new/deep`),
    ]
    const results = await racing(to, () =>
      place.run({ ...probe('ls', outside), mounts, process: { cwd: '/' } }),
    )
    for (const { code, out, err } of results) {
      assert.ok(code === 0 || code === 1 || code === 125, err)
      assert.not.match(out, /secret/)
      if (code === 125) assert.match(err, /^mount: /)
    }
    assert.equal(readdirSync(outside), ['secret'])
  })
}

test('a mount at a name that leads into /proc now and then covers nothing there', async () => {
  const at = `/vol/${readdirSync(volume).length}/a`
  const mounts = [...MOUNTS, bind(volume, '/vol'), bind(other, at)]
  const results = await racing('/proc/self/attr', () =>
    place.run({ ...probe('ls', '/proc/self/attr'), mounts }),
  )
  for (const { code, out, err } of results) {
    assert.not.match(out, /mark/)
    if (code === 125) assert.match(err, /^mount: /)
  }
})

test('masked and read-only paths in such a volume cover nothing of the host', async () => {
  const at = `/vol/${readdirSync(volume).length}/a`
  const mounts = [...MOUNTS, bind(volume, '/vol')]
  const results = await racing(outside, () =>
    place.run({
      ...probe('true'),
      mounts,
      maskedPaths: [`${at}/deep`, at],
      readonlyPaths: [at],
    }),
  )
  for (const { code, err } of results) assert.ok(code === 0 || /^mount: /.test(err), err)
  assert.equal(readdirSync(outside), ['secret'])
})

test('a working directory to be made in such a volume is made inside', async () => {
  const at = `/vol/${readdirSync(volume).length}/a`
  const mounts = [...MOUNTS, bind(volume, '/vol')]
  const results = await racing(outside, () =>
    place.run({ ...probe('pwd'), mounts, process: { cwd: `${at}/made/deep`, createCwd: true } }),
  )
  for (const { code, out, err } of results) {
    if (code === 0) assert.match(out, /^\/vol|^\/tmp/)
    else assert.match(err, /^cwd: /)
  }
  assert.equal(readdirSync(outside), ['secret'])
})

test('nothing is left behind', async () => {
  place.remove()
  await clean()
})

test.run()
