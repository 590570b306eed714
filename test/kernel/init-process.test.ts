import { existsSync, mkdirSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { compileSeccomp } from '../../src/seccomp/index.ts'
import type { ProcessPlan } from '../../src/spec/plan.ts'
import { type Given, Place, probe } from '../lib/inside.ts'
import { cgroupRoot, needing, needs } from '../lib/needs.ts'
import { traces } from '../lib/traces.ts'

needs('root', 'overlay')

const place = new Place()
const clean = traces({ roots: [place.directory] })

const CHOWN = 1n << 0n
const KILL = 1n << 5n
const NET_BIND_SERVICE = 1n << 10n
const NONE = { bounding: 0n, effective: 0n, permitted: 0n, inheritable: 0n, ambient: 0n }

function as(more: Partial<ProcessPlan>, ...verb: string[]): Given {
  return { ...probe(...verb), process: more }
}

test('a program runs and its exit code is ours', () => {
  assert.equal(place.run(probe('echo', 'hello')), { code: 0, out: 'hello\n', err: '' })
  assert.is(place.run(probe('exit', '37')).code, 37)
  assert.is(place.run({ ...probe('kill-self', 'KILL'), reaper: true }).code, 137)
})

test('a program without a slash is found in the PATH of the container', () => {
  assert.is(place.run({ args: ['found-in-path', 'true'] }).code, 0)
})

test('a program that cannot be executed gives 127 or 126 and says why', () => {
  const missing = place.run({ args: ['missing'] })
  assert.equal(missing, {
    code: 127,
    out: '',
    err: 'exec: exec "missing": executable file not found in $PATH\n',
  })
  assert.is(place.run({ args: ['/bin/missing'] }).code, 127)
  assert.is(place.run({ args: ['/etc/from-layer'] }).code, 126)
  assert.is(place.run({ args: ['/etc'] }).code, 126)
  assert.is(place.run({ args: ['missing'], reaper: true }).code, 127)
})

test('user, groups and umask are those of the plan', () => {
  const ran = place.run(as({ uid: 5, gid: 6, groups: [7, 8], umask: 0o027 }, 'id'))
  assert.is(ran.out, 'uid=5 gid=6 groups=7,8 umask=0027\n')
})

test('capabilities are exactly those of the plan, also for a user that is not root', () => {
  const sets = {
    bounding: CHOWN | KILL | NET_BIND_SERVICE,
    effective: CHOWN | KILL | NET_BIND_SERVICE,
    permitted: CHOWN | KILL | NET_BIND_SERVICE,
    inheritable: 0n,
    ambient: 0n,
  }
  const root = place.run(as({ capabilities: sets }, 'caps'))
  assert.match(root.out, /^bounding CHOWN KILL NET_BIND_SERVICE$/m)
  assert.match(root.out, /^effective CHOWN KILL NET_BIND_SERVICE$/m)
  assert.match(root.out, /^inheritable *$/m)
  const user = place.run(as({ capabilities: sets, uid: 5 }, 'caps'))
  assert.match(user.out, /^bounding CHOWN KILL NET_BIND_SERVICE$/m)
  assert.match(user.out, /^effective *$/m)
  const ambient = { ...sets, inheritable: NET_BIND_SERVICE, ambient: NET_BIND_SERVICE }
  const raised = place.run(as({ capabilities: ambient, uid: 5 }, 'caps'))
  assert.match(raised.out, /^effective NET_BIND_SERVICE$/m)
  assert.match(raised.out, /^ambient NET_BIND_SERVICE$/m)
  assert.match(place.run(as({ capabilities: NONE }, 'caps')).out, /^permitted *$/m)
})

test('no_new_privs is set when asked', () => {
  for (const noNewPrivileges of [true, false]) {
    const ran = place.run(as({ noNewPrivileges }, 'cat', '/proc/self/status'))
    assert.match(ran.out, new RegExp(`^NoNewPrivs:\t${Number(noNewPrivileges)}$`, 'm'))
  }
})

test('a seccomp program holds, with and without no_new_privs, and survives the loss of all capabilities', () => {
  const { program, flags } = compileSeccomp(
    {
      defaultAction: 'SCMP_ACT_ALLOW',
      syscalls: [{ names: ['mkdirat', 'mkdir'], action: 'SCMP_ACT_ERRNO', errnoRet: 95 }],
    },
    process.arch,
  )
  for (const noNewPrivileges of [true, false]) {
    const more = { seccomp: { program, flags }, noNewPrivileges, capabilities: NONE }
    const ran = place.run(as(more, 'mkdir', '/tmp/x'))
    assert.match(ran.err, /EOPNOTSUPP|ENOTSUP/)
    const status = place.run(as(more, 'cat', '/proc/self/status')).out
    assert.match(status, /^Seccomp:\t2$/m)
  }
})

test('resource limits are those of the plan', () => {
  const RLIMIT_NOFILE = 7
  const rlimits = [{ resource: RLIMIT_NOFILE, soft: 100n, hard: 200n }]
  assert.match(place.run(as({ rlimits }, 'rlimits')).out, /^nofile 100 200$/m)
})

test('oom_score_adj is that of the plan', () => {
  assert.is(place.run(as({ oomScoreAdj: 500 }, 'cat', '/proc/self/oom_score_adj')).out, '500\n')
})

test('a profile that the kernel cannot apply is refused by name', () => {
  const ran = place.run(as({ apparmor: 'no-such-profile' }, 'true'))
  assert.is(ran.code, 125)
  assert.match(ran.err, /^apparmor: profile no-such-profile/)
})

test('a missing working directory is made for its user when asked, else refused', () => {
  const made = place.run(as({ cwd: '/new/deep', createCwd: true, uid: 5, gid: 6 }, 'stat', '.'))
  assert.match(made.out, / 5:6 /, made.err)
  const ran = place.run(as({ cwd: '/not/there' }, 'true'))
  assert.is(ran.code, 125)
  assert.match(ran.err, /^cwd: cannot enter \/not\/there/)
})

test('a terminal is one of the container, of the given size, and is /dev/console too', () => {
  const terminal = { terminal: true, rows: 33, columns: 77 }
  assert.is(place.run(as(terminal, 'is-tty')).out.trim(), 'stdin=yes stdout=yes stderr=yes')
  assert.match(place.run(as(terminal, 'tty-size')).out, /33.*77/)
  assert.match(place.run(as(terminal, 'stat', '/dev/console')).out, /136:0/)
  assert.match(place.run(as(terminal, 'write-file', '/dev/tty', 'controlling')).out, /controlling/)
})

test('--init is PID 1, passes signals on, reaps orphans and gives the exit code', () => {
  assert.is(place.run({ ...probe('exit', '9'), reaper: true }).code, 9)
  const ps = place.run({ ...probe('ps'), reaper: true })
  assert.match(ps.out, /^ *1 .*berth-init/m)
  const status = place.run({
    ...as({ uid: 5, capabilities: NONE }, 'cat', '/proc/1/status'),
    reaper: true,
  })
  assert.match(status.out, /^Uid:\t5\t5\t5\t5$/m)
  assert.match(status.out, /^CapBnd:\t0+$/m)
})

test('stdio that is a pipe can be opened again by the user of the process', () => {
  const ran = place.run(
    as({ uid: 5, capabilities: NONE }, 'append-file', '/proc/self/fd/1', 'again'),
  )
  assert.is(ran.err, '')
  assert.match(ran.out, /again/)
})

test('exec joins all namespaces and has its own user, capabilities and terminal', () => {
  for (const user of [false, true]) {
    const base: Given = {
      ...probe('trap'),
      hostname: 'inside-host',
      ...(user ? mapped : {}),
    }
    const hostname = place.run(base, as({}, 'hostname'))
    assert.equal(hostname, { code: 0, out: 'inside-host\n', err: '' })
    const ps = place.run(base, as({}, 'ps'))
    assert.match(ps.out, /^ *1 .*probe/m)
    const id = place.run(base, as({ uid: 5, gid: 6, capabilities: NONE }, 'id'))
    assert.match(id.out, /^uid=5 gid=6/, id.err)
    assert.match(place.run(base, as({ terminal: true }, 'is-tty')).out, /stdin=yes/)
    assert.is(place.run(base, { args: ['missing'] }).code, 127)
    const fds = place.run(base, as({}, 'fds'))
    assert.match(fds.out, /^0 .*\n1 .*\n2 .*\n$/)
    place.reset()
  }
})

needing(test, 'cgroup:hugetlb')(
  'exec goes to the cgroup of the first process where that of the container takes none',
  () => {
    const cgroup = join(cgroupRoot(), `berth-inside-exec-${process.pid}`)
    const below = join(cgroup, 'below')
    mkdirSync(cgroup)
    try {
      const inside = as({}, 'cat', '/proc/self/cgroup')
      const held: Given = { ...probe('trap'), namespaces: hostCgroup }
      const name = `/berth-inside-exec-${process.pid}`
      const direct = place.run({ ...held, cgroup }, { ...inside, cgroup })
      assert.match(direct.out, new RegExp(`^0::.*${name}$`, 'm'), direct.err)
      // cgroups(7): with a controller given to its children a cgroup holds no process itself.
      mkdirSync(below)
      writeFileSync(join(cgroup, 'cgroup.subtree_control'), '+hugetlb')
      const delegated = place.run({ ...held, cgroup: below }, { ...inside, cgroup })
      assert.match(delegated.out, new RegExp(`^0::.*${name}/below$`, 'm'), delegated.err)
      const gone = place.run({ ...held, cgroup: below }, { ...inside, cgroup: join(below, 'gone') })
      assert.is(gone.code, 125)
      assert.match(gone.err, /^cgroup: /)
    } finally {
      if (existsSync(below)) rmdirSync(below)
      rmdirSync(cgroup)
    }
  },
)

const hostCgroup = (['mount', 'pid', 'network', 'ipc', 'uts'] as const).map((type) => ({ type }))

const mapped: Partial<Given> = {
  namespaces: (['mount', 'pid', 'network', 'ipc', 'uts', 'cgroup', 'user'] as const).map(
    (type) => ({ type }),
  ),
  idMappings: {
    uids: [{ inside: 0, outside: 1_000_000, size: 65536 }],
    gids: [{ inside: 0, outside: 1_000_000, size: 65536 }],
  },
}

test('nothing is left behind', async () => {
  place.remove()
  await clean()
})

test.run()
