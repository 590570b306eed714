import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { syscallTable } from '../../src/seccomp/constants.ts'
import { COMPARISONS, compileSeccomp, defaultSeccomp } from '../../src/seccomp/index.ts'
import { ALL_CAPABILITIES, DEFAULT_CAPABILITIES } from '../../src/spec/defaults.ts'
import type { Seccomp, SeccompRule } from '../../src/spec/runtime.ts'
import { needs } from '../lib/needs.ts'
import { AUDIT, decision, X32 } from '../unit/seccomp/simulator.ts'

const [LIBRARY = ''] = [
  '/usr/lib/x86_64-linux-gnu/libseccomp.so.2',
  '/usr/lib/aarch64-linux-gnu/libseccomp.so.2',
  '/usr/lib64/libseccomp.so.2',
  '/usr/lib/libseccomp.so.2',
].filter((path, i, all) => existsSync(path) || i === all.length - 1)
needs('program:python3', `file:${LIBRARY}`)

/** Makes libseccomp's filter of a section, as runc calls it, and prints its bytes in hexadecimal, and the names that it does not know. */
const MAKE = `
import ctypes, json, os, sys
L = ctypes.CDLL(sys.argv[1])
class Arg(ctypes.Structure):
    _fields_ = [('arg', ctypes.c_uint), ('op', ctypes.c_int), ('a', ctypes.c_uint64), ('b', ctypes.c_uint64)]
L.seccomp_init.restype = ctypes.c_void_p
L.seccomp_init.argtypes = [ctypes.c_uint32]
L.seccomp_arch_add.argtypes = L.seccomp_arch_remove.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
L.seccomp_rule_add_array.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(Arg)]
L.seccomp_export_bpf.argtypes = [ctypes.c_void_p, ctypes.c_int]
OPS = {'NE': 1, 'LT': 2, 'LE': 3, 'EQ': 4, 'GE': 5, 'GT': 6, 'MASKED_EQ': 7}
ARCH = {'X86': 0x40000003, 'X86_64': 0xc000003e, 'X32': 0x4000003e, 'ARM': 0x40000028, 'AARCH64': 0xc00000b7}
ACTION = {'ALLOW': 0x7fff0000, 'ERRNO': 0x50000, 'LOG': 0x7ffc0000, 'KILL_PROCESS': 0x80000000}
def action(name, errno):
    value = ACTION[name[9:]]
    return value | (1 if errno is None else errno) if value == 0x50000 else value
section = json.load(sys.stdin)
default = action(section['defaultAction'], section.get('defaultErrnoRet'))
ctx = L.seccomp_init(default)
wanted = [ARCH[a[10:]] for a in section['architectures']]
for a in wanted:
    L.seccomp_arch_add(ctx, a)
native = L.seccomp_arch_native()
if native & 0xffffffff not in wanted:
    assert L.seccomp_arch_remove(ctx, native) == 0
unknown = []
for rule in section['syscalls']:
    value = action(rule['action'], rule.get('errnoRet'))
    if value == default:
        continue
    args = rule.get('args', [])
    array = (Arg * len(args))(*[Arg(x['index'], OPS[x['op'][9:]], x['value'], x.get('valueTwo', 0)) for x in args])
    for name in rule['names']:
        number = L.seccomp_syscall_resolve_name(name.encode())
        if number == -1:
            unknown.append(name)
            continue
        rc = L.seccomp_rule_add_array(ctx, value, number, len(args), array)
        assert rc in (0, -17), (name, rc)
r, w = os.pipe()
if os.fork() == 0:
    L.seccomp_export_bpf(ctx, w)
    os._exit(0)
os.close(w)
print(json.dumps({'bpf': os.fdopen(r, 'rb').read().hex(), 'unknown': unknown}))
`

function theirs(section: Seccomp): { program: Uint8Array; unknown: Set<string> } {
  const result = spawnSync('python3', ['-c', MAKE, LIBRARY], {
    input: JSON.stringify(section),
    encoding: 'utf8',
  })
  assert.is(result.status, 0, result.stderr)
  const { bpf, unknown } = JSON.parse(result.stdout) as { bpf: string; unknown: string[] }
  return { program: Buffer.from(bpf, 'hex'), unknown: new Set(unknown) }
}

const WAYS = {
  x64: [
    { audit: AUDIT.x86_64, table: 'x86_64' },
    { audit: AUDIT.x86, table: 'x86' },
    { audit: AUDIT.x86_64, table: 'x32' },
  ],
  arm64: [
    { audit: AUDIT.aarch64, table: 'aarch64' },
    { audit: AUDIT.arm, table: 'arm' },
  ],
} as const

/** Compares the two filters of a section for every call that both know; the rest is where we answer ENOSYS on purpose. */
function compare(
  section: Seccomp,
  architecture: keyof typeof WAYS,
  samples: readonly bigint[],
): number {
  const { program, unknown } = theirs(section)
  const ours = compileSeccomp(section, architecture).program
  const named = new Set((section.syscalls ?? []).flatMap((rule) => rule.names))
  let compared = 0
  for (const { audit, table } of WAYS[architecture]) {
    const numbers = [...syscallTable(table)]
      .filter(([name]) => named.has(name))
      .map(([, number]) => number & ~X32)
    const newest = Math.max(...numbers.filter((number) => number < 0xf0000))
    const withArguments = (section.syscalls ?? [])
      .filter((rule) => rule.args)
      .flatMap((rule) => rule.names)
    const compares = new Set(
      withArguments.map((name) => (syscallTable(table).get(name) ?? 0) & ~X32),
    )
    const skipped = new Set(
      [...syscallTable(table)].filter(([name]) => unknown.has(name)).map(([, n]) => n & ~X32),
    )
    for (let number = 0; number <= newest; number++) {
      if (skipped.has(number)) continue
      for (const a of compares.has(number) ? samples : samples.slice(0, 2)) {
        const call = { audit, number: table === 'x32' ? X32 + number : number, args: [a] }
        const same = decision(ours, call) === decision(program, call)
        if (!same) assert.unreachable(`${table} ${number}(${a})`)
        compared++
      }
    }
  }
  return compared
}

for (const architecture of ['x64', 'arm64'] as const) {
  for (const [name, capabilities] of Object.entries({
    'no capability': [],
    "docker's capabilities": DEFAULT_CAPABILITIES,
    'all capabilities': ALL_CAPABILITIES,
  })) {
    test(`the default profile with ${name} is libseccomp's on ${architecture}`, () => {
      const samples = [
        0n,
        2n,
        8n,
        37n,
        38n,
        39n,
        40n,
        41n,
        0x20000n,
        0x20008n,
        0x40000n,
        0x10000000n,
        0xffffffffn,
      ]
      const compared = compare(
        defaultSeccomp({ capabilities, architecture }),
        architecture,
        samples,
      )
      assert.ok(compared > 1_500, String(compared))
    })
  }
}

test('random sections are decided as libseccomp decides them', () => {
  let seed = 4711
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0
    return Math.floor((seed / 2 ** 32) * below)
  }
  const names = [...syscallTable('x86_64').keys()].slice(0, 330)
  const shuffled = names.sort(() => random(3) - 1)
  for (let round = 0; round < 12; round++) {
    const actions = ['SCMP_ACT_ALLOW', 'SCMP_ACT_ERRNO', 'SCMP_ACT_LOG', 'SCMP_ACT_KILL_PROCESS']
    // One rule for a name: of two that overlap, libseccomp 2.5 makes wrong trees (GE 2^32+1 or LE 0 lets 1 pass).
    const syscalls: SeccompRule[] = Array.from({ length: 16 }, (_, i) => ({
      names: shuffled.slice(i * 20, i * 20 + 20),
      action: actions[i % 4] ?? '',
      args: Array.from({ length: random(3) }, (_, index) => ({
        index,
        op: COMPARISONS[random(7)] ?? '',
        value: [0, 1, 2, 0xffffffff, 2 ** 32, 2 ** 32 + 1][random(6)] ?? 0,
        valueTwo: [0, 1, 2 ** 32][random(3)] ?? 0,
      })),
    }))
    const section = {
      defaultAction: actions[round % 4] ?? '',
      architectures: ['SCMP_ARCH_X86_64'],
      syscalls,
    }
    const { program } = theirs(section)
    const ours = compileSeccomp(section, 'x64').program
    const values = [0n, 1n, 2n, 3n, 0xffffffffn, 1n << 32n, (1n << 32n) + 1n, 1n << 63n]
    const numbers = syscalls.flatMap((rule) =>
      rule.names.map((name) => syscallTable('x86_64').get(name) ?? 0),
    )
    for (const number of new Set(numbers)) {
      for (const a of values) {
        for (const b of values) {
          const call = { audit: AUDIT.x86_64, number, args: [a, b] }
          const rules = syscalls.filter((rule) =>
            rule.names.some((n) => syscallTable('x86_64').get(n) === number),
          )
          assert.is(
            decision(ours, call),
            decision(program, call),
            JSON.stringify({
              round,
              number,
              a: `${a}`,
              b: `${b}`,
              rules: rules.map(({ names, ...r }) => r),
            }),
          )
        }
      }
    }
  }
})

test.run()
