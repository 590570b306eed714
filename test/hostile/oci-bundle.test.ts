/**
 * The CVEs of other OCI runtimes against berth-oci, whose root is a directory that an image has filled: links in the place of what a runtime mounts on, opens
 * or writes, and descriptors that a program could stand in. The races are those of volume-race.test.ts: the same code makes the mounts.
 */
import { createHash } from 'node:crypto'
import {
  chmodSync,
  existsSync,
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
import { REPOSITORY } from '../lib/images.ts'
import { cgroupRoot, needs } from '../lib/needs.ts'
import { ociOfFile, type Patch } from '../lib/oci.ts'

needs('root', 'cgroup2', 'program:busybox')

const { oci, nothingIsLeft } = ociOfFile()
const outside = join(oci.directory, 'outside')
mkdirSync(outside)
let count = 0

/** Runs a script in a root that `prepare` has made hostile. */
async function attack(script: string, prepare: (root: string) => void, patch?: Patch) {
  const id = `attack-${++count}`
  const bundle = oci.bundle(id, script, (spec) => {
    spec.root = { path: 'rootfs' }
    patch?.(spec)
  })
  prepare(join(bundle, 'rootfs'))
  return await oci.run(['run', '--bundle', bundle, id])
}

const nothingOutside = (): void => assert.equal(readdirSync(outside), [], 'the host was written to')

/** A path of the host as a link that is followed from inside of a root would have it. */
const LINKS = (to: string): [name: string, link: string][] => [
  ['absolute', to],
  ['through /proc', `/proc/1/root${to}`],
]

for (const [kind, link] of LINKS(outside)) {
  test(`CVE-2026-41579, CVE-2026-47766: /dev is a link (${kind}): nodes and mounts stay below the root`, async () => {
    await attack('true', (root) => symlinkSync(link, join(root, 'dev')))
    nothingOutside()
    // Without a mount of its own there the nodes would be made through the link.
    await attack(
      'true',
      (root) => symlinkSync(link, join(root, 'dev')),
      (spec) => {
        spec.mounts = (spec.mounts ?? []).filter(
          ({ destination }) => !destination.startsWith('/dev'),
        )
      },
    )
    nothingOutside()
  })

  test(`CVE-2023-27561, CVE-2019-16884: /proc is a link (${kind}): it is refused, or a procfs with its masks`, async () => {
    const { code, stdout } = await attack(
      'echo x >/proc/sys/kernel/hostname && echo WRITTEN; test -d /proc/self && grep -q " /proc " /proc/self/mountinfo && echo mounted',
      (root) => symlinkSync(link, join(root, 'proc')),
    )
    assert.not.match(stdout, /WRITTEN/)
    assert.ok(code !== 0 || /mounted/.test(stdout))
    nothingOutside()
  })

  test(`CVE-2018-15664, CVE-2024-45310, CVE-2021-30465: a mount's target is a link (${kind}): nothing is made or covered outside`, async () => {
    const source = join(oci.directory, `source-${count}`)
    mkdirSync(source)
    writeFileSync(join(source, 'mark'), 'marked')
    await attack(
      'true',
      (root) => symlinkSync(link, join(root, 'link')),
      (spec) => {
        spec.mounts?.push(
          { destination: '/link/new/deep', source, options: ['bind'] },
          { destination: '/link/file', source: join(source, 'mark'), options: ['bind'] },
        )
      },
    )
    nothingOutside()
  })
}

test('CVE-2025-31133: /dev/null of the image is a link: what it points to is not mounted over a masked path', async () => {
  const { stdout } = await attack(
    'cat /proc/kcore 2>&1 | head -c 100; cat /masked; echo; echo x >/proc/sys/kernel/core_pattern',
    (root) => {
      mkdirSync(join(root, 'dev'))
      symlinkSync('/proc/sys/kernel/core_pattern', join(root, 'dev/null'))
      writeFileSync(join(root, 'masked'), 'secret')
    },
    (spec) => {
      // The image's own /dev is what the container has.
      spec.mounts = (spec.mounts ?? []).filter(({ destination }) => !destination.startsWith('/dev'))
      spec.linux.maskedPaths = [...(spec.linux.maskedPaths ?? []), '/masked']
    },
  )
  assert.not.match(stdout, /secret|\|/)
  assert.is.not(readFileSync('/proc/sys/kernel/core_pattern', 'utf8'), 'x\n')
})

test('CVE-2025-52565: /dev/console and /dev/pts of the image are links: the terminal is mounted by its descriptor', async () => {
  const bundle = oci.bundle('console', 'tty; ls -l /dev/console', (spec) => {
    spec.root = { path: 'rootfs' }
    Object.assign(spec.process, { terminal: true })
    spec.mounts = (spec.mounts ?? []).filter(
      ({ destination }) => !destination.startsWith('/dev') || destination === '/dev/pts',
    )
  })
  mkdirSync(join(bundle, 'rootfs/dev'))
  writeFileSync(join(outside, 'console'), 'untouched')
  symlinkSync(join(outside, 'console'), join(bundle, 'rootfs/dev/console'))
  await oci.run(['run', '--bundle', bundle, 'console'])
  assert.is(readFileSync(join(outside, 'console'), 'utf8'), 'untouched')
  rmSync(join(outside, 'console'))
  nothingOutside()
})

test('CVE-2025-52881: a fake /proc in a volume is no place where labels and sysctls are written', async () => {
  const fake = join(oci.directory, 'fake-proc')
  mkdirSync(join(fake, 'sys/kernel'), { recursive: true })
  mkdirSync(join(fake, 'self/attr'), { recursive: true })
  for (const name of ['sys/kernel/hostname', 'sys/kernel/shm_rmid_forced', 'self/attr/exec'])
    writeFileSync(join(fake, name), '')
  await attack(
    'true',
    () => {},
    (spec) => {
      spec.mounts = [{ destination: '/proc', source: fake, options: ['bind', 'rw'] }]
      spec.linux.sysctl = { 'kernel.shm_rmid_forced': '1' }
      spec.linux.maskedPaths = []
      spec.linux.readonlyPaths = []
    },
  )
  assert.is(readFileSync(join(fake, 'sys/kernel/shm_rmid_forced'), 'utf8'), '')
})

test('CVE-2024-21626: no descriptor of the host can be stood in, by run or exec', async () => {
  oci.bundle('stay', 'exec sleep 1000')
  await oci.create('stay')
  await oci.ok(['start', 'stay'])
  for (const fd of [3, 4, 5, 6, 7, 8, 10]) {
    const { code, stdout } = await attack(
      'ls -d ../../../../../../etc/hostname; pwd',
      () => {},
      (spec) => {
        Object.assign(spec.process, { cwd: `/proc/self/fd/${fd}` })
      },
    )
    assert.is.not(code, 0, stdout)
    assert.is(stdout, '')
    if (fd % 2 === 0) continue
    const inside = await oci.run(['exec', '--cwd', `/proc/self/fd/${fd}`, 'stay', 'ls'])
    assert.is(inside.code, 255, inside.stdout)
  }
  await oci.ok(['delete', '--force', 'stay'])
})

test('CVE-2019-5736: the programs that run on the host cannot be written to from inside', async () => {
  const programs = ['build/Release/berth-launch', 'bin/berth-oci.cjs'].map((name) =>
    join(REPOSITORY, name),
  )
  const digest = () =>
    programs.map((path) => createHash('sha256').update(readFileSync(path)).digest('hex'))
  const before = digest()
  // The program is ours itself; and whoever looks finds no file to write to behind any /proc/PID/exe.
  const ran = await attack(
    '',
    (root) => {
      writeFileSync(join(root, 'self'), '#!/proc/self/exe\n')
      chmodSync(join(root, 'self'), 0o755)
    },
    (spec) => Object.assign(spec.process, { args: ['/self'] }),
  )
  assert.is.not(ran.code, 0)
  oci.bundle(
    'watch',
    'while :; do for p in /proc/[0-9]*; do (echo x >$p/exe) 2>/dev/null && echo WRITTEN $p; done; done',
  )
  await oci.create('watch')
  await oci.ok(['start', 'watch'])
  for (let i = 0; i < 3; i++) await oci.run(['exec', 'watch', 'true'])
  assert.not.match(oci.output('watch'), /WRITTEN/)
  await oci.ok(['delete', '--force', 'watch'])
  assert.equal(digest(), before)
})

test('CVE-2021-43784: a configuration with more mappings and namespaces than the kernel takes is refused by name', async () => {
  const id = 'many'
  const bundle = oci.bundle(id, 'true', (spec) => {
    const map = (i: number) => ({ containerID: i, hostID: 100000 + i, size: 1 })
    const all = Array.from({ length: 70000 }, (_, i) => map(i))
    Object.assign(spec.linux, { uidMappings: all, gidMappings: all })
    spec.linux.namespaces?.push({ type: 'user' })
  })
  await oci.refused(
    ['create', '--bundle', bundle, id],
    /linux\.uidMappings has more|linux\.uidMappings: has more/,
  )
  oci.configure(bundle, id, 'true', (spec) => spec.linux.namespaces?.push({ type: 'pid' }))
  await oci.refused(['create', '--bundle', bundle, id], /linux\.namespaces.*given twice/)
  assert.not.ok(existsSync(join(oci.root, id)))
})

test('CVE-2022-29162: a process inherits no capability that nobody has called inheritable', async () => {
  const { stdout } = await attack('cat /proc/self/status', () => {})
  assert.match(stdout, /^CapInh:\t0000000000000000$/m)
  assert.not.match(stdout, /^CapEff:\t0000000000000000$/m)
})

test('CVE-2023-25809: cgroups are not written to from inside, with or without a cgroup namespace', async () => {
  for (const type of ['cgroup', 'none']) {
    const { stdout } = await attack(
      'cd /sys/fs/cgroup && ls cgroup.procs; mkdir made; echo 0 >cgroup.procs; echo 1 >cgroup.freeze; echo end',
      () => {},
      (spec) => {
        const others = (spec.linux.namespaces ?? []).filter((ns) => ns.type !== 'cgroup')
        spec.linux.namespaces = type === 'none' ? others : [...others, { type }]
      },
    )
    // A write would have moved or frozen the shell before its end.
    assert.is(stdout, 'cgroup.procs\nend\n')
    assert.not.ok(existsSync(join(cgroupRoot(), 'made')))
  }
})

test('a configuration that is no regular file, or endless, is refused', async () => {
  const bundle = oci.bundle('odd', 'true')
  rmSync(join(bundle, 'config.json'))
  symlinkSync('/dev/zero', join(bundle, 'config.json'))
  await oci.refused(['create', '--bundle', bundle, 'odd'], /config\.json/)
})

test('a root whose path holds a NUL, and a value of another kind, are refused by the name of the field', async () => {
  const bundle = oci.bundle('kinds', 'true', (spec) => {
    spec.root = { path: 'root\0fs' }
  })
  await oci.refused(['create', '--bundle', bundle, 'kinds'], /root\.path: holds a NUL/)
  for (const path of ['/d'.repeat(3000), 'd'.repeat(300)]) {
    oci.configure(bundle, 'kinds', 'true', (spec) => {
      spec.root = { path }
    })
    await oci.refused(
      ['create', '--bundle', bundle, 'kinds'],
      /root\.path: .* cannot be followed: ENAMETOOLONG/,
    )
  }
  oci.configure(bundle, 'kinds', 'true', (spec) => {
    const devices = [{ allow: true, type: 'c', major: 2 ** 60 }]
    Object.assign(spec.linux, { resources: { devices } })
  })
  await oci.refused(
    ['create', '--bundle', bundle, 'kinds'],
    /resources\.devices\[\d\]: major \d{19} is no device number/,
  )
  oci.configure(bundle, 'kinds', 'true', (spec) => {
    Object.assign(spec, { mounts: [null] })
  })
  await oci.refused(['create', '--bundle', bundle, 'kinds'], /mounts\[0\]: null is no object/)
  assert.not.ok(existsSync(join(oci.root, 'kinds')))
})

test('nothing is left behind', nothingIsLeft)
test.run()
