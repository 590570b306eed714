import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Fault, type FaultCode } from '../../../src/base/fault.ts'
import { syscallTable } from '../../../src/seccomp/constants.ts'
import { COMPARISONS, compileSeccomp } from '../../../src/seccomp/index.ts'
import type { Seccomp, SeccompRule } from '../../../src/spec/runtime.ts'
import { ALLOW, AUDIT, type Call, decision, errno, KILL_PROCESS, run, X32 } from './simulator.ts'

const X64 = syscallTable('x86_64')
const nr = (name: string): number => X64.get(name) ?? (assert.unreachable(name) as never)
const program = (section: Partial<Seccomp>, architecture = 'x64'): Uint8Array =>
  compileSeccomp({ defaultAction: 'SCMP_ACT_ERRNO', ...section }, architecture).program
const call = (name: string, ...args: bigint[]): Call => ({
  audit: AUDIT.x86_64,
  number: nr(name),
  args,
})
const allow = (names: string[], args?: SeccompRule['args']): SeccompRule => ({
  names,
  action: 'SCMP_ACT_ALLOW',
  ...(args ? { args } : {}),
})

// A small generator of numbers, the same at every run.
let seed = 20260711
function random(below: number): number {
  seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0
  return Math.floor((seed / 2 ** 32) * below)
}

const ACTIONS: Record<string, number> = {
  SCMP_ACT_KILL: 0,
  SCMP_ACT_KILL_THREAD: 0,
  SCMP_ACT_KILL_PROCESS: 0x80000000,
  SCMP_ACT_TRAP: 0x30000,
  SCMP_ACT_ERRNO: errno(1),
  SCMP_ACT_TRACE: 0x7ff00001,
  SCMP_ACT_LOG: 0x7ffc0000,
  SCMP_ACT_ALLOW: ALLOW,
}
for (const [action, value] of Object.entries(ACTIONS)) {
  test(`${action} returns its value`, () => {
    const bpf = program({ defaultAction: 'SCMP_ACT_TRAP', syscalls: [{ names: ['read'], action }] })
    assert.is(decision(bpf, call('read')), value)
    assert.is(decision(bpf, call('write')), errno(38))
  })
}

test('errnoRet is the errno, of the default and of a rule', () => {
  const bpf = program({
    defaultErrnoRet: 13,
    syscalls: [
      { names: ['write'], action: 'SCMP_ACT_ERRNO', errnoRet: 22 },
      { names: ['open'], action: 'SCMP_ACT_TRACE', errnoRet: 0x123 },
      allow(['listmount']),
    ],
  })
  assert.is(decision(bpf, call('read')), errno(13))
  assert.is(decision(bpf, call('write')), errno(22))
  assert.is(decision(bpf, call('open')), 0x7ff00123)
})

test('a comparison holds for 64 bits', () => {
  const wide = [
    0n,
    1n,
    5n,
    6n,
    7n,
    0xffff_ffffn,
    0x1_0000_0000n,
    0x1_0000_0005n,
    0x1_0000_0006n,
    0x7_0000_0006n,
    2n ** 63n,
    2n ** 64n - 1n,
  ]
  const holds: Record<(typeof COMPARISONS)[number], (a: bigint, b: bigint) => boolean> = {
    SCMP_CMP_NE: (a, b) => a !== b,
    SCMP_CMP_LT: (a, b) => a < b,
    SCMP_CMP_LE: (a, b) => a <= b,
    SCMP_CMP_EQ: (a, b) => a === b,
    SCMP_CMP_GE: (a, b) => a >= b,
    SCMP_CMP_GT: (a, b) => a > b,
    // Here b is the mask; a call matches when the masked value is that of the mask's lowest bits.
    SCMP_CMP_MASKED_EQ: (a, b) => (a & b) === (6n & b),
  }
  for (const op of COMPARISONS) {
    for (const value of wide) {
      const bpf = program({ syscalls: [allow(['read'], [{ index: 3, op, value, valueTwo: 6 }])] })
      for (const arg of wide) {
        const expected = holds[op](arg, value) ? ALLOW : errno(1)
        assert.is(decision(bpf, call('read', 9n, 9n, 9n, arg)), expected, `${arg} ${op} ${value}`)
      }
    }
  }
})

test('all conditions of a rule must hold, and one rule of several', () => {
  const bpf = program({
    syscalls: [
      allow(
        ['read'],
        [
          { index: 0, op: 'SCMP_CMP_EQ', value: 1 },
          { index: 1, op: 'SCMP_CMP_NE', value: 2 },
          { index: 5, op: 'SCMP_CMP_GE', value: 3 },
        ],
      ),
      {
        names: ['read'],
        action: 'SCMP_ACT_ERRNO',
        errnoRet: 7,
        args: [{ index: 0, op: 'SCMP_CMP_EQ', value: 1 }],
      },
    ],
  })
  assert.is(decision(bpf, call('read', 1n, 3n, 0n, 0n, 0n, 3n)), ALLOW)
  assert.is(decision(bpf, call('read', 1n, 2n, 0n, 0n, 0n, 3n)), errno(7))
  assert.is(decision(bpf, call('read', 1n, 3n, 0n, 0n, 0n, 2n)), errno(7))
  assert.is(decision(bpf, call('read', 2n, 3n, 0n, 0n, 0n, 3n)), errno(1))
})

test('an argument named twice in one rule makes two rules', () => {
  const bpf = program({
    syscalls: [
      allow(
        ['read'],
        [
          { index: 0, op: 'SCMP_CMP_EQ', value: 1 },
          { index: 0, op: 'SCMP_CMP_EQ', value: 2 },
        ],
      ),
    ],
  })
  assert.equal(
    [1n, 2n, 3n].map((arg) => decision(bpf, call('read', arg))),
    [ALLOW, ALLOW, errno(1)],
  )
})

test('a rule without conditions holds whatever the others say', () => {
  const conditional = allow(['read'], [{ index: 0, op: 'SCMP_CMP_EQ', value: 1 }])
  const plain: SeccompRule = { names: ['read'], action: 'SCMP_ACT_ERRNO', errnoRet: 9 }
  for (const syscalls of [
    [conditional, plain],
    [plain, conditional],
  ]) {
    assert.is(decision(program({ syscalls }), call('read', 1n)), errno(9))
  }
})

test('what is newer than a forbidding profile is not there, and free in an allowing one', () => {
  const strict = program({ syscalls: [allow(['read', 'statx'])] })
  assert.is(decision(strict, call('write')), errno(1))
  assert.is(decision(strict, call('clone3')), errno(38))
  assert.is(decision(strict, { audit: AUDIT.x86_64, number: 4000 }), errno(38))
  const lax = program({
    defaultAction: 'SCMP_ACT_ALLOW',
    syscalls: [{ names: ['read'], action: 'SCMP_ACT_ERRNO' }],
  })
  assert.is(decision(lax, { audit: AUDIT.x86_64, number: 4000 }), ALLOW)
})

test('another architecture ends the process unless it is listed', () => {
  const read = { names: ['read'], action: 'SCMP_ACT_ALLOW' }
  const alone = program({ syscalls: [read] })
  assert.is(decision(alone, { audit: AUDIT.x86, number: 3 }), KILL_PROCESS)
  assert.is(decision(alone, { audit: AUDIT.aarch64, number: 63 }), KILL_PROCESS)
  const both = program({ architectures: ['SCMP_ARCH_X86', 'SCMP_ARCH_S390'], syscalls: [read] })
  assert.is(decision(both, { audit: AUDIT.x86, number: 3 }), ALLOW)
  assert.is(decision(both, { audit: AUDIT.x86_64, number: 0 }), ALLOW)
  assert.is(decision(both, { audit: AUDIT.x86, number: 0 }), errno(1))
})

test('the x32 bit is no way around a rule', () => {
  const deny: Partial<Seccomp> = {
    defaultAction: 'SCMP_ACT_ALLOW',
    syscalls: [{ names: ['mount'], action: 'SCMP_ACT_ERRNO' }],
  }
  const mount = { audit: AUDIT.x86_64, number: X32 + nr('mount') }
  assert.is(decision(program(deny), mount), KILL_PROCESS)
  assert.is(decision(program({ ...deny, architectures: ['SCMP_ARCH_X32'] }), mount), errno(1))
  assert.is(decision(program(deny), { audit: AUDIT.x86_64, number: 0xffffffff }), ALLOW)
  assert.is(decision(program({ syscalls: [allow(['mount'])] }), mount), errno(38))
})

test('x32 has numbers of its own', () => {
  const bpf = program({ architectures: ['SCMP_ARCH_X32'], syscalls: [allow(['ioctl'])] })
  assert.is(decision(bpf, { audit: AUDIT.x86_64, number: X32 + 514 }), ALLOW)
  assert.is(decision(bpf, { audit: AUDIT.x86_64, number: X32 + 16 }), errno(1))
})

test('socketcall and ipc of 32-bit x86 obey the rules of what they carry', () => {
  const bpf = program({
    defaultAction: 'SCMP_ACT_ALLOW',
    architectures: ['SCMP_ARCH_X86'],
    syscalls: [{ names: ['socket', 'shmat'], action: 'SCMP_ACT_ERRNO' }],
  })
  const x86 = (number: number, arg: bigint): number =>
    decision(bpf, { audit: AUDIT.x86, number, args: [arg] })
  assert.equal(
    [x86(359, 1n), x86(102, 1n), x86(102, 2n), x86(117, 21n), x86(117, 1n)],
    [errno(1), errno(1), ALLOW, errno(1), ALLOW],
  )
})

test('aarch64 and arm have their own numbers', () => {
  const bpf = program(
    { architectures: ['SCMP_ARCH_ARM'], syscalls: [allow(['read', 'set_tls'])] },
    'arm64',
  )
  assert.is(decision(bpf, { audit: AUDIT.aarch64, number: 63 }), ALLOW)
  assert.is(decision(bpf, { audit: AUDIT.arm, number: 3 }), ALLOW)
  assert.is(decision(bpf, { audit: AUDIT.arm, number: 0x0f0005 }), ALLOW)
  assert.is(decision(bpf, { audit: AUDIT.arm, number: 0x0f0002 }), errno(38))
  assert.is(decision(bpf, { audit: AUDIT.x86_64, number: 0 }), KILL_PROCESS)
})

test('random sections decide every call as their rules read', () => {
  const names = [...X64.keys()]
  for (let round = 0; round < 60; round++) {
    const actions = ['SCMP_ACT_ALLOW', 'SCMP_ACT_ERRNO', 'SCMP_ACT_LOG', 'SCMP_ACT_KILL_PROCESS']
    const defaultAction = actions[random(4)] ?? ''
    const syscalls: SeccompRule[] = Array.from({ length: 1 + random(8) }, () => ({
      names: Array.from({ length: 1 + random(20) }, () => names[random(names.length)] ?? ''),
      action: actions[random(4)] ?? '',
      args: Array.from({ length: random(3) }, (_, index) => ({
        index,
        op: COMPARISONS[random(7)] ?? '',
        value: BigInt(random(3)) << BigInt(32 * random(2)),
        valueTwo: BigInt(random(3)) << BigInt(32 * random(2)),
      })),
    }))
    const section = { defaultAction, syscalls, architectures: ['SCMP_ARCH_X86'] }
    const bpf = program(section)
    for (let number = 0; number < 480; number++) {
      const args = [0, 1].map(() => BigInt(random(3)) << BigInt(32 * random(2)))
      assert.is(
        decision(bpf, { audit: AUDIT.x86_64, number, args }),
        naive(section, number, args),
        JSON.stringify({ round, number }),
      )
    }
  }
})

/** The rules read one by one. */
function naive(section: Seccomp, number: number, args: bigint[]): number {
  const fallback = ACTIONS[section.defaultAction] ?? -1
  const rules = (section.syscalls ?? []).filter((rule) => ACTIONS[rule.action] !== fallback)
  const newest = Math.max(0, ...(section.syscalls ?? []).flatMap((rule) => rule.names.map(nr)))
  if (number > newest && fallback !== ALLOW && fallback !== 0x7ffc0000) return errno(38)
  const mine = rules.filter((rule) => rule.names.some((name) => nr(name) === number))
  const plain = mine.find((rule) => !rule.args?.length)
  const matching =
    plain ?? mine.find((rule) => rule.args?.every((arg) => matches(arg, args[arg.index] ?? 0n)))
  return matching ? (ACTIONS[matching.action] ?? -1) : fallback
}

function matches(arg: NonNullable<SeccompRule['args']>[number], given: bigint): boolean {
  const [value, two] = [BigInt(arg.value), BigInt(arg.valueTwo ?? 0)]
  switch (arg.op) {
    case 'SCMP_CMP_NE':
      return given !== value
    case 'SCMP_CMP_LT':
      return given < value
    case 'SCMP_CMP_LE':
      return given <= value
    case 'SCMP_CMP_EQ':
      return given === value
    case 'SCMP_CMP_GE':
      return given >= value
    case 'SCMP_CMP_GT':
      return given > value
    default:
      return (given & value) === (two & value)
  }
}

test('a profile that names every second call with conditions still jumps right', () => {
  const names = [...X64.keys()].filter((_, i) => i % 2 === 0)
  const bpf = program({ syscalls: [allow(names, [{ index: 0, op: 'SCMP_CMP_LT', value: 5 }])] })
  assert.ok(bpf.length / 8 > 1000)
  for (const name of X64.keys()) {
    const expected = names.includes(name)
      ? ALLOW
      : nr(name) > nr(names.at(-1) ?? '')
        ? errno(38)
        : errno(1)
    assert.is(decision(bpf, call(name, 4n)), expected, name)
    assert.is.not(decision(bpf, call(name, 5n)), ALLOW, name)
  }
})

test('the same section gives the same bytes', () => {
  const section = { syscalls: [allow(['read', 'write'])] }
  assert.equal(program(section), program(section))
})

test('unknown names are ignored with one warning; those of other machines without', () => {
  const { warnings } = compileSeccomp(
    {
      defaultAction: 'SCMP_ACT_ERRNO',
      syscalls: [
        allow(['nonsense', 'toString', 'riscv_hwprobe', 'swapcontext', 'socketcall', 'read']),
      ],
    },
    'x64',
  )
  assert.is(warnings.length, 1)
  assert.match(warnings[0] ?? '', /2 unknown names are ignored: "nonsense", "toString"/)
})

test('a search through a thousand rules takes few instructions', () => {
  const bpf = program({ syscalls: [allow([...X64.keys()].filter((_, i) => i % 3 !== 0))] })
  assert.ok(run(bpf, call('read')).steps <= 14)
})

test('flags are bits; without any, SPEC_ALLOW', () => {
  const flags = (given?: string[]): number =>
    compileSeccomp({ defaultAction: 'SCMP_ACT_ALLOW', ...(given ? { flags: given } : {}) }, 'x64')
      .flags
  assert.equal(
    [flags(), flags([]), flags(['SECCOMP_FILTER_FLAG_TSYNC', 'SECCOMP_FILTER_FLAG_LOG'])],
    [4, 0, 3],
  )
})

const many = Array.from({ length: 12 }, (_, i) =>
  allow(
    [...X64.keys()],
    [0, 1, 2].map((index) => ({ index, op: 'SCMP_CMP_EQ', value: i })),
  ),
)
const refused: [string, Partial<Seccomp>, FaultCode, RegExp][] = [
  [
    'NOTIFY without a listener',
    { syscalls: [{ names: ['mkdir'], action: 'SCMP_ACT_NOTIFY' }] },
    'INVALID_ARGUMENT',
    /listenerPath/,
  ],
  [
    'NOTIFY of what hands the listener on',
    { listenerPath: '/x', syscalls: [{ names: ['mkdir', 'sendmsg'], action: 'SCMP_ACT_NOTIFY' }] },
    'INVALID_ARGUMENT',
    /sendmsg/,
  ],
  ['NOTIFY of all', { defaultAction: 'SCMP_ACT_NOTIFY' }, 'INVALID_ARGUMENT', /defaultAction/],
  ['an unknown action', { defaultAction: 'SCMP_ACT_X' }, 'INVALID_ARGUMENT', /defaultAction/],
  [
    'an inherited name as action',
    { defaultAction: 'toString' },
    'INVALID_ARGUMENT',
    /defaultAction/,
  ],
  [
    'an unknown architecture',
    { architectures: ['SCMP_ARCH_VAX'] },
    'INVALID_ARGUMENT',
    /SCMP_ARCH_VAX/,
  ],
  ['an unknown flag', { flags: ['X'] }, 'INVALID_ARGUMENT', /flags/],
  [
    'WAIT_KILLABLE_RECV without NOTIFY',
    { flags: ['SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV'] },
    'INVALID_ARGUMENT',
    /NOTIFY/,
  ],
  [
    'an unknown comparison',
    { syscalls: [allow(['read'], [{ index: 0, op: 'X', value: 1 }])] },
    'INVALID_ARGUMENT',
    /args\[0\].op/,
  ],
  [
    'a seventh argument',
    { syscalls: [allow(['read'], [{ index: 6, op: 'SCMP_CMP_EQ', value: 1 }])] },
    'INVALID_ARGUMENT',
    /index/,
  ],
  [
    'a negative value',
    { syscalls: [allow(['read'], [{ index: 0, op: 'SCMP_CMP_EQ', value: -1 }])] },
    'INVALID_ARGUMENT',
    /value/,
  ],
  ['a rule without names', { syscalls: [allow([])] }, 'INVALID_ARGUMENT', /names/],
  ['an errno of 4096', { defaultErrnoRet: 4096 }, 'INVALID_ARGUMENT', /4096/],
  [
    'an errno for ALLOW',
    { defaultAction: 'SCMP_ACT_ALLOW', defaultErrnoRet: 1 },
    'INVALID_ARGUMENT',
    /no errno/,
  ],
  ['more than 4096 instructions', { syscalls: many }, 'RESOURCE_EXHAUSTED', /instructions/],
]
for (const [name, section, code, message] of refused) {
  test(`${name} is refused by name`, () => {
    assert.throws(
      () => program(section),
      (e: unknown) => e instanceof Fault && e.code === code && message.test(e.message),
    )
  })
}

test.run()
