/** Capabilities, filters, namespaces, limits and the network files of `berth run`. */
import {
  existsSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { berthOfFile } from '../lib/berth.ts'
import { cgroupRoot, lacks, needs } from '../lib/needs.ts'

needs('root', 'overlay', 'cgroup2')

const { berth, nothingIsLeft } = berthOfFile()
const hello = (options: string[], ...command: string[]) => [
  'run',
  '--rm',
  '--net',
  'none',
  ...options,
  'hello',
  ...command,
]
const ok = (options: string[], ...command: string[]) => berth.ok(hello(options, ...command))
const probe = (options: string[], ...command: string[]) => ok(options, 'probe', ...command)
const fails = async (says: RegExp, options: string[], ...command: string[]) => {
  const { code, stderr } = await berth.run(hello(options, 'probe', ...command))
  assert.is(code, 1, stderr)
  assert.match(stderr, says)
}
const caps = async (options: string[], set = 'effective') => {
  const text = await probe(options, 'caps')
  const line = text.split('\n').find((each) => each.startsWith(set)) ?? ''
  return line.split(' ').slice(1)
}

const DEFAULT =
  'CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT MKNOD AUDIT_WRITE SETFCAP'.split(
    ' ',
  )

test('capabilities: docker’s fourteen, none inheritable or ambient', async () => {
  const text = await probe([], 'caps')
  assert.equal(
    text.split('\n').map((line) => line.split(' ').length - 1),
    [14, 14, 14, 0, 0],
  )
  assert.equal(await caps([]), DEFAULT)
})

test('--cap-add and --cap-drop, ALL and single ones', async () => {
  assert.ok((await caps(['--cap-add', 'net_admin'])).includes('NET_ADMIN'))
  assert.not((await caps(['--cap-drop', 'CAP_CHOWN'])).includes('CHOWN'))
  assert.equal(await caps(['--cap-drop', 'ALL']), [])
  assert.equal(await caps(['--cap-drop', 'ALL', '--cap-add', 'KILL']), ['KILL'])
  const all = await caps(['--cap-add', 'ALL', '--cap-drop', 'MKNOD'])
  assert.not(all.includes('MKNOD'))
  assert.ok(all.includes('SYS_CHROOT'))
  await berth.refused(hello(['--cap-add', 'NOSUCH'], 'true'), /NOSUCH/i)
})

test('a user other than root has no effective capability', async () => {
  assert.equal(await caps(['-u', '1000']), [])
  assert.equal(await caps(['-u', '1000'], 'bounding'), DEFAULT)
})

test('seccomp: the default filter, none, one of the user', async () => {
  const mode = async (options: string[]) =>
    /^Seccomp:\s+(\d)/m.exec(await ok(options, 'cat', '/proc/self/status'))?.[1]
  assert.is(await mode([]), '2')
  assert.is(await mode(['--security-opt', 'seccomp=unconfined']), '0')
  assert.is(await mode(['--privileged']), '0')
  await fails(/EPERM/, [], 'unshare', 'user')
  const file = join(berth.directory, 'profile.json')
  writeFileSync(
    file,
    JSON.stringify({
      defaultAction: 'SCMP_ACT_ALLOW',
      syscalls: [
        { names: ['chmod', 'fchmodat', 'fchmodat2'], action: 'SCMP_ACT_ERRNO', errnoRet: 38 },
      ],
    }),
  )
  await fails(/ENOSYS/, ['--security-opt', `seccomp=${file}`], 'chmod', '600', '/etc/passwd')
  await berth.refused(hello(['--security-opt', 'seccomp=/no/such'], 'true'), /\/no\/such/)
  writeFileSync(file, '{ not json')
  await berth.refused(hello(['--security-opt', `seccomp=${file}`], 'true'), /JSON/)
  writeFileSync(file, '{"defaultAction":"SCMP_ACT_NONSENSE"}')
  await berth.refused(hello(['--security-opt', `seccomp=${file}`], 'true'), /SCMP_ACT_NONSENSE/)
  await berth.refused(hello(['--security-opt', 'nonsense=1'], 'true'), /nonsense/)
})

test('no-new-privileges is off by default and on when asked', async () => {
  const bit = async (options: string[]) =>
    /^NoNewPrivs:\s+(\d)/m.exec(await ok(options, 'cat', '/proc/self/status'))?.[1]
  assert.is(await bit([]), '0')
  assert.is(await bit(['--security-opt', 'no-new-privileges']), '1')
  assert.is(await bit(['--security-opt', 'no-new-privileges=false']), '0')
})

test('mask and unmask change what is hidden', async () => {
  assert.is(await ok(['--security-opt', 'mask=/etc/group:/home'], 'cat', '/etc/group'), '')
  assert.is(await ok(['--security-opt', 'mask=/etc/group:/home'], 'ls', '/home'), '')
  assert.not.equal(
    await ok(['--security-opt', 'unmask=/proc/timer_list'], 'cat', '/proc/timer_list'),
    '',
  )
  const mounts = await ok(['--security-opt', 'unmask=ALL'], 'cat', '/proc/self/mountinfo')
  assert.not.match(mounts, / \/proc\/(acpi|sys|keys) /)
})

test('apparmor that this host does not have is refused', async () => {
  if (readFileSync('/proc/filesystems', 'utf8').includes('apparmorfs')) return
  await berth.refused(hello(['--security-opt', 'apparmor=some-profile'], 'true'), /[Aa]pp[Aa]rmor/)
  await ok(['--security-opt', 'apparmor=unconfined'], 'true')
})

test('--privileged: every capability that we have, host devices, nothing masked', async () => {
  const own = BigInt(
    `0x${/^CapBnd:\s+(\w+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]}`,
  )
  const count = own.toString(2).replaceAll('0', '').length
  assert.is((await caps(['--privileged'])).length, count)
  assert.match(await probe(['--privileged'], 'open', '/dev/loop-control', 'rw'), /opened/)
  assert.not.match(await ok(['--privileged'], 'cat', '/proc/self/mountinfo'), / \/proc\/acpi /)
  await probe(['--privileged'], 'mount', 'none', '/tmp', 'tmpfs')
})

test('--ulimit sets soft and hard; raising what we may not is refused in a sentence', async () => {
  assert.match(await probe(['--ulimit', 'nofile=100:200'], 'rlimits'), /nofile 100 200/i)
  await berth.refused(hello(['--ulimit', 'nosuch=1'], 'true'), /nosuch/)
  await berth.refused(hello(['--ulimit', 'nofile=5:4'], 'true'), /soft/)
  const bound = /Max open files\s+\d+\s+(\d+)/.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1]
  const mayRaise =
    (Number(
      BigInt(`0x${/^CapEff:\s+(\w+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]}`) >>
        24n,
    ) &
      1) ===
    1
  if (!mayRaise && bound !== undefined) {
    await berth.refused(
      hello(['--ulimit', `nofile=${Number(bound) + 1}`], 'true'),
      /nofile.*(CAP_SYS_RESOURCE|hard limit)/i,
    )
  }
})

test('--sysctl: those of the container’s namespaces, no other', async () => {
  assert.is(
    await ok(['--sysctl', 'net.core.somaxconn=777'], 'cat', '/proc/sys/net/core/somaxconn'),
    '777',
  )
  assert.is(await ok(['--sysctl', 'kernel.msgmax=9000'], 'cat', '/proc/sys/kernel/msgmax'), '9000')
  for (const name of ['kernel.panic=1', 'vm.swappiness=1', 'fs.file-max=1', 'nosuch.thing=1']) {
    await berth.refused(
      hello(['--sysctl', name], 'true'),
      new RegExp(name.split('=')[0]?.replaceAll('.', '\\.') ?? ''),
    )
  }
  await berth.refused(
    hello(['--net', 'host', '--sysctl', 'net.core.somaxconn=777'], 'true'),
    /somaxconn/,
  )
  await berth.refused(hello(['--ipc', 'host', '--sysctl', 'kernel.msgmax=9000'], 'true'), /msgmax/)
})

test('--oom-score-adj is set; what we may not lower is refused', async () => {
  assert.is(await ok(['--oom-score-adj', '500'], 'cat', '/proc/self/oom_score_adj'), '500')
  await berth.refused(hello(['--oom-score-adj', '1001'], 'true'), /1001|1000/)
})

test('namespaces: each one is new but user and time', async () => {
  for (const type of ['mnt', 'pid', 'net', 'ipc', 'uts', 'cgroup']) {
    const inside = await ok([], 'probe', 'readlink', `/proc/self/ns/${type}`)
    assert.is.not(inside, readlinkSync(`/proc/self/ns/${type}`), type)
  }
  const time = await ok(['--time', 'private'], 'probe', 'readlink', '/proc/self/ns/time')
  assert.is.not(time, readlinkSync('/proc/self/ns/time'))
})

for (const [option, type] of [
  ['--pid', 'pid'],
  ['--ipc', 'ipc'],
  ['--uts', 'uts'],
  ['--net', 'net'],
  ['--cgroupns', 'cgroup'],
] as const) {
  test(`${option} host is the host’s`, async () => {
    const inside = await ok([option, 'host'], 'probe', 'readlink', `/proc/self/ns/${type}`)
    assert.is(inside, readlinkSync(`/proc/self/ns/${type}`))
  })
}

test('--uts host keeps the host’s name, --net host too', async () => {
  assert.is(await ok(['--uts', 'host'], 'probe', 'hostname'), hostname())
  assert.is(await ok(['--net', 'host'], 'probe', 'hostname'), hostname())
})

test('container:ID and ns:PATH join another one’s namespace', async () => {
  await berth.ok([
    'run',
    '-d',
    '--net',
    'none',
    '--name',
    'other',
    '-h',
    'other-name',
    'hello',
    'sleep',
  ])
  const [{ State }] = JSON.parse(await berth.ok(['inspect', 'other']))
  for (const [option, type] of [
    ['--pid', 'pid'],
    ['--ipc', 'ipc'],
    ['--uts', 'uts'],
    ['--net', 'net'],
  ] as const) {
    const there = readlinkSync(`/proc/${State.Pid}/ns/${type}`)
    assert.is(
      await ok([option, 'container:other'], 'probe', 'readlink', `/proc/self/ns/${type}`),
      there,
    )
    assert.is(
      await ok(
        [option, `ns:/proc/${State.Pid}/ns/${type}`],
        'probe',
        'readlink',
        `/proc/self/ns/${type}`,
      ),
      there,
    )
  }
  assert.match(await ok(['--pid', 'container:other'], 'ps'), /sleep/)
  assert.is(await ok(['--net', 'container:other'], 'cat', '/etc/hostname'), 'other-name')
  await berth.refused(hello(['--pid', 'ns:/proc/self/ns/net'], 'true'), /pid/)
  await berth.refused(hello(['--pid', 'container:nosuch'], 'true'), /nosuch/)
  await berth.refused(hello(['--net', 'ns:/no/such'], 'true'), /\/no\/such/)
  await berth.ok(['kill', 'other'])
  await berth.ok(['wait', 'other'])
  await berth.refused(hello(['--pid', 'container:other'], 'true'), /other.*not running/)
  await berth.ok(['rm', 'other'])
  assert.is(await berth.ok(['ps', '-aq']), '')
})

test('--add-host and --dns are in the files', async () => {
  const hosts = await ok(
    ['--add-host', 'db.test:10.1.2.3', '--add-host', 'six:fd00::1'],
    'cat',
    '/etc/hosts',
  )
  assert.match(hosts, /^10\.1\.2\.3\s+db\.test$/m)
  assert.match(hosts, /^fd00::1\s+six$/m)
  assert.match(hosts, /^127\.0\.0\.1\s+localhost/m)
  const resolv = await ok(
    ['--dns', '10.9.8.7', '--dns-search', 'a.test', '--dns-option', 'ndots:3'],
    'cat',
    '/etc/resolv.conf',
  )
  assert.match(resolv, /^nameserver 10\.9\.8\.7$/m)
  assert.match(resolv, /^search a\.test$/m)
  assert.match(resolv, /^options ndots:3$/m)
  await berth.refused(hello(['--add-host', 'nonsense'], 'true'), /nonsense/)
  await berth.refused(hello(['--dns', 'nonsense'], 'true'), /nonsense/)
})

test('the loopback is up in a network of one’s own, and nothing else is there', async () => {
  const lines = (await probe([], 'interfaces')).split('\n')
  assert.ok(
    lines.every((line) => line.startsWith('lo up')),
    lines.join(),
  )
})

test('--cgroup-parent makes the cgroup there, and leaves a parent that is the user’s', async () => {
  const own = (text: string) => text.split('\n').find((line) => line.startsWith('0::'))
  const parent = join(cgroupRoot(), 'berth-cli-test')
  mkdirSync(join(parent, 'deep'), { recursive: true })
  try {
    const inside = await ok(
      ['--cgroupns', 'host', '--cgroup-parent', 'berth-cli-test/deep'],
      'cat',
      '/proc/self/cgroup',
    )
    assert.match(own(inside) ?? '', /\/berth-cli-test\/deep\/[0-9a-f]{64}$/)
    assert.ok(existsSync(join(parent, 'deep')))
  } finally {
    rmdirSync(join(parent, 'deep'))
    rmdirSync(parent)
  }
  assert.is(own(await ok([], 'cat', '/proc/self/cgroup')), '0::/')
  await berth.refused(hello(['--cgroup-parent', '../../x'], 'true'), /\.\./)
})

const LIMITS: [controller: string, options: string[], says: RegExp][] = [
  ['memory', ['--memory', '64m'], /memory/],
  ['cpu', ['--cpus', '0.5'], /cpu/],
  ['cpuset', ['--cpuset-cpus', '0'], /cpuset/],
  ['pids', ['--pids-limit', '10'], /pids/],
]
for (const [controller, options, says] of LIMITS) {
  if (!lacks(`cgroup:${controller}`)) continue
  test(`${options.join(' ')} is refused by name, in one line, where the host lacks ${controller}`, async () => {
    const { code, stderr } = await berth.run(hello(options, 'true'))
    assert.is(code, 125)
    assert.match(stderr, says)
    assert.match(stderr, /controller/)
    assert.is(stderr.trim().split('\n').length, 1, stderr)
    assert.is(await berth.ok(['ps', '-aq']), '')
  })
}

for (const [controller, ...options] of [
  ['memory', '--memory-reservation', '64m'],
  ['cpu', '--cpu-shares', '512'],
  ['io', '--blkio-weight', '500'],
] as const) {
  if (!lacks(`cgroup:${controller}`)) continue
  test(`${options.join(' ')}, a share and no bound, is without effect and said so where the host lacks ${controller}`, async () => {
    const { code, stderr } = await berth.run(hello([...options], 'true'))
    assert.is(code, 0)
    assert.match(stderr, new RegExp(`without effect.*"${controller}"`))
    assert.is(stderr.trim().split('\n').length, 1, stderr)
  })
}

test('a container without limits says nothing of what the host lacks', async () => {
  const { stderr } = await berth.run(hello([], 'true'))
  assert.is(stderr, '')
})

for (const option of [
  '--gpus=all',
  '--health-cmd=x',
  '--isolation=x',
  '--link=a',
  '--log-opt=a=b',
  '--ip=1.2.3.4',
  '--kernel-memory=1m',
  '--volumes-from=x',
]) {
  test(`${option} is refused by name`, () =>
    berth.refused(hello([option], 'true'), new RegExp(option.split('=')[0] ?? '')))
}

test('nothing is left behind', nothingIsLeft)

test.run()
