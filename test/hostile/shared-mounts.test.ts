/**
 * Containers without a mount namespace of their own: a mount that a hostile root leads astray would be on the host itself, and a process that joins only
 * the container's namespaces would stand in the host's root.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { eventually } from '../lib/eventually.ts'
import { needs } from '../lib/needs.ts'
import { ociOfFile, type Patch } from '../lib/oci.ts'

needs('root', 'cgroup2', 'program:busybox', 'program:python3')

const ROUNDS = 15
const { oci, nothingIsLeft } = ociOfFile()
const outside = join(oci.directory, 'outside')
const source = join(oci.directory, 'source')
for (const path of [outside, source]) {
  mkdirSync(path)
  writeFileSync(join(path, 'mark'), path)
}

const without =
  (patch: Patch): Patch =>
  (spec) => {
    spec.linux.namespaces = (spec.linux.namespaces ?? []).filter(({ type }) => type !== 'mount')
    spec.root = { path: 'rootfs' }
    patch(spec)
  }

/** Where something of this file is mounted, in the host's mount namespace. */
const places = (): string[] =>
  readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
    .filter((path) => path.startsWith(oci.directory))

function isHostUntouched(id: string): void {
  const astray = places().filter((path) => !`${path}/`.startsWith(`${oci.root}/${id}/root/`))
  assert.equal(astray, [], 'mounted on the host')
  assert.equal(readdirSync(outside), ['mark'], 'the host was written to')
  assert.is(readFileSync(join(outside, 'mark'), 'utf8'), outside)
}

const UP = '../'.repeat(30)
const LINKS: [kind: string, to: string][] = [
  ['absolute', outside],
  ['relative', `${UP}${outside.slice(1)}`],
  ['through /proc', `/proc/1/root${outside}`],
  ['through the cwd of a process', `/proc/self/cwd${outside}`],
]

for (const [kind, to] of LINKS) {
  test(`links (${kind}) where mounts and devices go lead none of them out of the root`, async () => {
    const id = `link-${kind.replaceAll(/\W/g, '')}`
    const bundle = oci.bundle(
      id,
      'exec sleep 1000',
      without((spec) => {
        spec.mounts?.push(
          { destination: '/link', source, options: ['bind'] },
          { destination: '/link/new/deep', type: 'tmpfs', source: 'x' },
          { destination: '/link/mark', source: join(source, 'mark'), options: ['bind'] },
          { destination: `/${UP}${outside}/up`, type: 'tmpfs', source: 'x' },
        )
        Object.assign(spec.linux, {
          devices: [{ path: '/link/null', type: 'c', major: 1, minor: 3 }],
          maskedPaths: ['/link/mark'],
          readonlyPaths: ['/link'],
        })
      }),
    )
    symlinkSync(to, join(bundle, 'rootfs/link'))
    const { code, stderr } = await oci.create(id)
    // Where there is nothing at the link's end inside, it is made there; through /proc nothing can be.
    if (code !== 0) assert.match(stderr, /mount|device|target/)
    isHostUntouched(id)
    await oci.ok(['delete', '--force', id])
    assert.equal(places(), [])
    isHostUntouched(id)
  })
}

for (const name of ['proc', 'sys', 'dev']) {
  test(`/${name} of the root as a link is refused, or leads nowhere`, async () => {
    const id = `is-${name}`
    const bundle = oci.bundle(
      id,
      'exec sleep 1000',
      without(() => {}),
    )
    symlinkSync(outside, join(bundle, 'rootfs', name))
    assert.is.not((await oci.create(id)).code, 0)
    isHostUntouched(id)
    assert.equal(places(), [])
  })
}

/** Exchanges the directory and the link (renameat2(2), RENAME_EXCHANGE), as fast as it can. */
const SWAP = `
import ctypes, os, sys
os.chdir(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
print("ready", flush=True)
while os.getppid() == int(sys.argv[2]):
    for i in range(1000):
        # EBUSY: something is mounted on it now, in this mount namespace.
        if libc.renameat2(-100, b"a", -100, b"l", 2) != 0 and ctypes.get_errno() != 16: sys.exit("renameat2: %d" % ctypes.get_errno())
`

test('a directory that somebody swaps with a link while mounts are made leads none of them out', async () => {
  const id = 'race'
  const bundle = oci.bundle(
    id,
    'exec sleep 1000',
    without((spec) => {
      for (const below of ['', '/b', '/b/c']) {
        spec.mounts?.push({ destination: `/a${below}`, source, options: ['bind'] })
        spec.mounts?.push({ destination: `/a${below}/new`, type: 'tmpfs', source: 'x' })
      }
    }),
  )
  const root = join(bundle, 'rootfs')
  mkdirSync(join(root, 'a/b/c'), { recursive: true })
  symlinkSync(`${UP}${outside.slice(1)}`, join(root, 'l'))
  const swapper: ChildProcess = spawn('python3', ['-c', SWAP, root, String(process.pid)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  assert.ok(swapper.stdout)
  await once(swapper.stdout, 'data')
  const ended = once(swapper, 'exit')
  try {
    for (let i = 0; i < ROUNDS; i++) {
      await oci.create(id)
      isHostUntouched(id)
      await oci.ok(['delete', '--force', id])
      assert.equal(places(), [])
    }
    assert.is(swapper.exitCode, null)
  } finally {
    swapper.kill('SIGKILL')
    await ended
  }
})

test('an exec stands in the root of the container, also where its first process has made a mount namespace', async () => {
  const id = 'apart'
  oci.bundle(
    id,
    'exec unshare -m sh -c "echo begun; exec sleep 1000"',
    without((spec) => {
      const sets = ['bounding', 'effective', 'permitted']
      const capabilities = Object.fromEntries(sets.map((set) => [set, ['CAP_SYS_ADMIN']]))
      Object.assign(spec.process, { capabilities })
    }),
  )
  await oci.create(id)
  await oci.ok(['start', id])
  const look = `ls -d ${outside}; ls -d ../../../../..${outside}; pwd; ls /`
  await eventually('it has begun', () => oci.output(id).includes('begun'))
  const { stdout } = await oci.run(['exec', id, 'sh', '-c', look])
  assert.match(stdout, /^\/\nbin\n/)
  assert.not.match(stdout, /outside/)
  await oci.ok(['delete', '--force', id])
  assert.equal(places(), [])
})

test('nothing is left behind', nothingIsLeft)
test.run()
