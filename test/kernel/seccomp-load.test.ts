import { spawnSync } from 'node:child_process'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { syscallTable } from '../../src/seccomp/constants.ts'
import { compileSeccomp, defaultSeccomp } from '../../src/seccomp/index.ts'
import { DEFAULT_CAPABILITIES } from '../../src/spec/defaults.ts'
import type { Seccomp } from '../../src/spec/runtime.ts'
import { needs } from '../lib/needs.ts'

needs('program:python3')

const NATIVE = syscallTable(process.arch === 'arm64' ? 'aarch64' : 'x86_64')

/** Loads the filter (an empty one: none) and prints the errno of each call, 0 for success. */
const CALLS = `
import ctypes, json, sys
libc = ctypes.CDLL(None, use_errno=True)
class Program(ctypes.Structure):
    _fields_ = [('length', ctypes.c_ushort), ('filter', ctypes.c_char_p)]
given = json.load(sys.stdin)
code = bytes.fromhex(given['program'])
if code:
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    program = Program(len(code) // 8, code)
    assert libc.syscall(given['seccomp'], 1, given['flags'], ctypes.byref(program)) == 0, ctypes.get_errno()
results = []
for number, *args in given['calls']:
    ctypes.set_errno(0)
    rc = libc.syscall(ctypes.c_long(number), *[ctypes.c_ulong(a) for a in args])
    results.append(ctypes.get_errno() if rc == -1 else 0)
print(json.dumps(results))
`

type Act = [call: string | number, ...args: number[]]

function act(section: Seccomp, ...acts: Act[]): { errnos: number[]; signal: string | null } {
  const { program, flags } = compileSeccomp(section, process.arch)
  const calls = acts.map(([call, ...args]) => [
    typeof call === 'number' ? call : NATIVE.get(call),
    ...args,
  ])
  const input = JSON.stringify({
    program: Buffer.from(program).toString('hex'),
    flags,
    seccomp: NATIVE.get('seccomp'),
    calls,
  })
  const result = spawnSync('python3', ['-c', CALLS], { input, encoding: 'utf8' })
  if (result.signal) return { errnos: [], signal: result.signal }
  assert.is(result.status, 0, result.stderr)
  return { errnos: JSON.parse(result.stdout) as number[], signal: null }
}

const standard = defaultSeccomp({ capabilities: DEFAULT_CAPABILITIES, architecture: process.arch })
const CLONE_NEWUSER = 0x10000000
const [EPERM, EBADF, ENOSYS] = [1, 9, 38]

test('the kernel takes the default profile and holds it', () => {
  const { errnos } = act(
    standard,
    ['getppid'],
    ['close', 9999],
    ['unshare', CLONE_NEWUSER],
    ['keyctl', 0, 0],
    ['bpf', 0, 0, 0],
    ['clone', CLONE_NEWUSER | 17],
    ['clone3', 0, 0],
    ['socket', 40, 1, 0],
    ['socket', 38, 5, 0],
    ['socket', 1, 1, 0],
    ['personality', 0xffffffff],
    ['personality', 0x40000],
    ['open_tree_attr', 0, 0, 0, 0, 0],
    [100_000],
  )
  assert.equal(errnos, [
    0,
    EBADF,
    EPERM,
    EPERM,
    EPERM,
    EPERM,
    ENOSYS,
    EPERM,
    EPERM,
    0,
    0,
    EPERM,
    ENOSYS,
    ENOSYS,
  ])
})

test('an argument is compared with all its 64 bits', () => {
  const section: Seccomp = {
    defaultAction: 'SCMP_ACT_ALLOW',
    syscalls: [
      {
        names: ['close'],
        action: 'SCMP_ACT_ERRNO',
        errnoRet: 111,
        args: [{ index: 0, op: 'SCMP_CMP_GT', value: 2 ** 33 + 5000 }],
      },
      {
        names: ['close'],
        action: 'SCMP_ACT_ERRNO',
        errnoRet: 112,
        args: [{ index: 0, op: 'SCMP_CMP_EQ', value: 2 ** 32 + 9999 }],
      },
    ],
  }
  const { errnos } = act(
    section,
    ['close', 9999],
    ['close', 2 ** 33 + 5000],
    ['close', 2 ** 33 + 5001],
    ['close', 2 ** 32 + 9999],
  )
  assert.equal(errnos, [EBADF, EBADF, 111, 112])
})

test('KILL_PROCESS ends the process with SIGSYS', () => {
  const section: Seccomp = {
    defaultAction: 'SCMP_ACT_ALLOW',
    syscalls: [{ names: ['getppid'], action: 'SCMP_ACT_KILL_PROCESS' }],
  }
  assert.is(act(section, ['getppid']).signal, 'SIGSYS')
})

if (process.arch === 'x64') {
  test('a call with the x32 bit is not there, or ends a process of an allowing filter', () => {
    const x32 = 0x40000000 + (NATIVE.get('getppid') ?? 0)
    assert.equal(act({ ...standard, architectures: [] }, [x32]).errnos, [ENOSYS])
    const lax: Seccomp = {
      defaultAction: 'SCMP_ACT_ALLOW',
      syscalls: [{ names: ['mount'], action: 'SCMP_ACT_ERRNO' }],
    }
    assert.is(act(lax, [x32]).signal, 'SIGSYS')
  })
}

test('every flag is taken', () => {
  const flags = [
    'SECCOMP_FILTER_FLAG_TSYNC',
    'SECCOMP_FILTER_FLAG_LOG',
    'SECCOMP_FILTER_FLAG_SPEC_ALLOW',
  ]
  assert.equal(act({ ...standard, flags }, ['getppid']).errnos, [0])
})

test.run()
