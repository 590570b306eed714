import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Fault } from '../../../src/base/fault.ts'
import {
  allowsAllDevices,
  DEFAULT_DEVICE_RULES,
  deviceProgram,
} from '../../../src/cgroup/devices.ts'
import type { DeviceRule } from '../../../src/spec/runtime.ts'

interface Access {
  type: 'b' | 'c'
  major: number
  minor: number
  access: string
}

const BITS: Record<string, number> = { m: 1, r: 2, w: 4 }
const bits = (access: string): number => [...access].reduce((sum, c) => sum | (BITS[c] ?? 0), 0)

/** Runs a program as the kernel would: the few instructions that it may hold. */
function run(program: Buffer, asked: Access): boolean {
  const context = [
    (bits(asked.access) << 16) | (asked.type === 'b' ? 1 : 2),
    asked.major,
    asked.minor,
  ]
  const registers = new Uint32Array(11)
  for (let at = 0, steps = 0; steps < 100_000; steps++, at++) {
    const base = at * 8
    const operation = program.readUInt8(base)
    const pair = program.readUInt8(base + 1)
    const target = pair & 15
    const source = registers[pair >> 4] ?? 0
    const offset = program.readInt16LE(base + 2)
    const immediate = program.readInt32LE(base + 4)
    const value = registers[target] ?? 0
    if (operation === 0x61) registers[target] = context[offset / 4] ?? 0
    else if (operation === 0xbc) registers[target] = source
    else if (operation === 0xb4) registers[target] = immediate
    else if (operation === 0x54) registers[target] = value & immediate
    else if (operation === 0xa4) registers[target] = value ^ immediate
    else if (operation === 0x74) registers[target] = value >>> immediate
    else if (operation === 0x05) at += offset
    else if (operation === 0x56) at += value !== immediate >>> 0 ? offset : 0
    else if (operation === 0x46) at += (value & immediate) !== 0 ? offset : 0
    else if (operation === 0x95) return registers[0] === 1
    else throw new Error(`instruction ${at} has the unknown operation ${operation}`)
  }
  throw new Error('the program does not end')
}

/** The meaning, said plainly: for each asked bit the last rule that speaks of it. */
function expected(rules: readonly DeviceRule[], asked: Access): boolean {
  const matches = (rule: DeviceRule): boolean =>
    (rule.type === undefined || rule.type === 'a' || rule.type === asked.type) &&
    (rule.major === undefined || rule.major === -1 || rule.major === asked.major) &&
    (rule.minor === undefined || rule.minor === -1 || rule.minor === asked.minor)
  return [...asked.access].every((bit) => {
    const last = rules.findLast((rule) => matches(rule) && (rule.access ?? 'rwm').includes(bit))
    return last?.allow ?? false
  })
}

const NULL: Access = { type: 'c', major: 1, minor: 3, access: 'rw' }
const DENY_ALL: DeviceRule = { allow: false, access: 'rwm' }

const TABLE: [string, DeviceRule[], Access, boolean][] = [
  ['no rule denies', [], NULL, false],
  ['allow all allows', [{ allow: true, type: 'a', access: 'rwm' }], NULL, true],
  ['a missing access is all of it', [{ allow: true }], NULL, true],
  ['a later deny wins', [{ allow: true }, { allow: false, type: 'c', major: 1 }], NULL, false],
  ['a later allow wins', [DENY_ALL, { allow: true, type: 'c', major: 1, minor: 3 }], NULL, true],
  [
    'another kind of device is another device',
    [DENY_ALL, { allow: true, type: 'b', major: 1, minor: 3 }],
    NULL,
    false,
  ],
  [
    'reading and writing need both',
    [DENY_ALL, { allow: true, type: 'c', access: 'r' }],
    NULL,
    false,
  ],
  [
    'two rules together allow both',
    [
      DENY_ALL,
      { allow: true, type: 'c', access: 'r' },
      { allow: true, type: 'c', major: 1, access: 'w' },
    ],
    NULL,
    true,
  ],
  [
    'a later allow all forgets an earlier deny',
    [{ allow: false, type: 'c', major: 1, minor: 3 }, { allow: true }],
    NULL,
    true,
  ],
  [
    'majors beyond 2^31 are compared whole',
    [DENY_ALL, { allow: true, type: 'c', major: 0xfffffffe }],
    { type: 'c', major: 0xfffffffe, minor: 0, access: 'r' },
    true,
  ],
  ['the default rules allow null', [...DEFAULT_DEVICE_RULES], NULL, true],
  [
    'the default rules deny a disk',
    [...DEFAULT_DEVICE_RULES],
    { type: 'b', major: 8, minor: 0, access: 'r' },
    false,
  ],
  [
    'the default rules let any node be made',
    [...DEFAULT_DEVICE_RULES],
    { type: 'b', major: 8, minor: 0, access: 'm' },
    true,
  ],
]

for (const [claim, rules, asked, allowed] of TABLE) {
  test(claim, () => {
    assert.is(run(deviceProgram(rules), asked), allowed)
    assert.is(expected(rules, asked), allowed)
  })
}

test('any list of rules decides as its plain meaning does', () => {
  // A fixed sequence, so that a failure can be repeated.
  let seed = 42
  const next = (below: number): number => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0
    return (seed >>> 8) % below
  }
  const letters = (): string => ['r', 'w', 'm'].filter(() => next(2) === 1).join('') || 'r'
  for (let round = 0; round < 3000; round++) {
    const rules = Array.from({ length: next(7) }, (): DeviceRule => {
      const rule: DeviceRule = { allow: next(2) === 1, type: ['a', 'b', 'c'][next(3)] ?? 'a' }
      if (next(2)) rule.major = next(3) - 1
      if (next(2)) rule.minor = next(3) - 1
      if (next(4)) rule.access = letters()
      return rule
    })
    const asked: Access = {
      type: next(2) ? 'b' : 'c',
      major: next(3),
      minor: next(3),
      access: letters(),
    }
    assert.is(
      run(deviceProgram(rules), asked),
      expected(rules, asked),
      JSON.stringify({ rules, asked }),
    )
  }
})

for (const rule of [
  { allow: true, type: 'p' },
  { allow: true, type: 'c', access: 'rx' },
  { allow: true, type: 'c', major: -2 },
  { allow: true, type: 'c', minor: 1.5 },
]) {
  test(`the rule ${JSON.stringify(rule)} is refused by its place in the list`, () => {
    assert.throws(
      () => deviceProgram([DENY_ALL, rule]),
      (error: unknown) =>
        error instanceof Fault && error.message.startsWith('resources.devices[1]'),
    )
  })
}

test('all is allowed only when the last rule says so of everything', () => {
  assert.is(allowsAllDevices([DENY_ALL, { allow: true, type: 'a', access: 'mrw' }]), true)
  assert.is(allowsAllDevices([{ allow: true, type: 'c' }]), false)
  assert.is(allowsAllDevices([{ allow: true }, DENY_ALL]), false)
  assert.is(allowsAllDevices([]), false)
})

test.run()
