import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { syscallTable } from '../../../src/seccomp/constants.ts'
import { compileSeccomp, defaultSeccomp } from '../../../src/seccomp/index.ts'
import { ALL_CAPABILITIES, DEFAULT_CAPABILITIES } from '../../../src/spec/defaults.ts'
import { ALLOW, AUDIT, decision, errno, run } from './simulator.ts'

const X64 = syscallTable('x86_64')
function filter(capabilities: readonly string[] = DEFAULT_CAPABILITIES, architecture = 'x64') {
  return compileSeccomp(defaultSeccomp({ capabilities, architecture }), architecture)
}
function decide(capabilities: readonly string[], name: string, ...args: bigint[]): number {
  const number = X64.get(name)
  assert.type(number, 'number', name)
  return decision(filter(capabilities).program, {
    audit: AUDIT.x86_64,
    number: number as number,
    args,
  })
}

test('every name is known, on both architectures', () => {
  for (const architecture of ['x64', 'arm64'])
    assert.equal(filter(ALL_CAPABILITIES, architecture).warnings, [])
})

const always: [string, bigint[], number][] = [
  ['read', [], ALLOW],
  ['execve', [], ALLOW],
  ['removexattrat', [], ALLOW],
  ['ptrace', [], ALLOW],
  ['chroot', [], ALLOW],
  ['mount', [], errno(1)],
  ['unshare', [], errno(1)],
  ['setns', [], errno(1)],
  ['keyctl', [], errno(1)],
  ['add_key', [], errno(1)],
  ['request_key', [], errno(1)],
  ['io_uring_setup', [], errno(1)],
  ['userfaultfd', [], errno(1)],
  ['bpf', [], errno(1)],
  ['perf_event_open', [], errno(1)],
  ['kexec_load', [], errno(1)],
  ['init_module', [], errno(1)],
  ['pivot_root', [], errno(1)],
  ['open_by_handle_at', [], errno(1)],
  ['clone', [0x11n], ALLOW],
  ['clone', [0x10000011n], errno(1)],
  ['clone', [0x40000000n], errno(1)],
  ['clone3', [], errno(38)],
  ['open_tree_attr', [], errno(38)],
  ['socket', [2n], ALLOW],
  ['socket', [38n], errno(1)],
  ['socket', [39n], ALLOW],
  ['socket', [40n], errno(1)],
  ['socket', [44n], ALLOW],
  ['personality', [0n], ALLOW],
  ['personality', [8n], ALLOW],
  ['personality', [0x20008n], ALLOW],
  ['personality', [0xffffffffn], ALLOW],
  ['personality', [0x40000n], errno(1)],
]
for (const [name, args, value] of always) {
  test(`with docker's capabilities ${name}(${args.join()}) is ${value === ALLOW ? 'allowed' : `errno ${value & 0xffff}`}`, () => {
    assert.is(decide(DEFAULT_CAPABILITIES, name, ...args), value)
  })
}

const granted: [string, string[]][] = [
  ['CAP_SYS_ADMIN', ['mount', 'unshare', 'clone3', 'setns', 'bpf', 'fsopen', 'sethostname']],
  ['CAP_SYS_PTRACE', ['kcmp', 'pidfd_getfd', 'process_madvise']],
  ['CAP_BPF', ['bpf']],
  ['CAP_PERFMON', ['perf_event_open']],
  ['CAP_SYSLOG', ['syslog']],
  ['CAP_SYS_TIME', ['settimeofday', 'clock_settime']],
  ['CAP_SYS_NICE', ['mbind', 'set_mempolicy']],
  ['CAP_SYS_MODULE', ['init_module', 'finit_module', 'delete_module']],
  ['CAP_SYS_CHROOT', ['chroot']],
  ['CAP_DAC_READ_SEARCH', ['open_by_handle_at']],
]
for (const [capability, names] of granted) {
  test(`${capability} opens ${names.join(', ')}`, () => {
    for (const name of names) {
      assert.is.not(decide([], name), ALLOW, name)
      assert.is(decide([capability], name), ALLOW, name)
    }
  })
}

test('CAP_SYS_ADMIN frees the flags of clone', () => {
  assert.is(decide(['CAP_SYS_ADMIN'], 'clone', 0x7e020000n), ALLOW)
})

test('no call takes more than 20 instructions, a common one 14', () => {
  const { program } = filter()
  for (const [name, number] of X64) {
    const { steps } = run(program, { audit: AUDIT.x86_64, number, args: [2n] })
    assert.ok(
      steps <= (['socket', 'personality', 'clone'].includes(name) ? 40 : 14),
      `${name}: ${steps}`,
    )
  }
})

test('the program is far from the limit of the kernel', () => {
  assert.ok(filter(ALL_CAPABILITIES).program.length / 8 < 1000)
})

test.run()
