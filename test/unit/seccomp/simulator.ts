/** A call as a filter sees it: struct seccomp_data. */
export interface Call {
  readonly audit: number
  readonly number: number
  readonly args?: readonly bigint[]
}

export const AUDIT = {
  x86_64: 0xc000003e,
  x86: 0x40000003,
  aarch64: 0xc00000b7,
  arm: 0x40000028,
} as const
export const X32 = 0x40000000
export const ALLOW = 0x7fff0000
export const KILL_PROCESS = 0x80000000
export const errno = (number: number): number => 0x50000 | number

/**
 * Runs a classic BPF program as the kernel does (Documentation/networking/filter.rst), and refuses what its checker does: unknown instructions, jumps out of the
 * program, loads from outside struct seccomp_data or not aligned. Returns the value and how many instructions it took.
 */
export function run(program: Uint8Array, call: Call): { value: number; steps: number } {
  const code = Buffer.from(program.buffer, program.byteOffset, program.byteLength)
  const data = Buffer.alloc(64)
  data.writeUInt32LE(call.number >>> 0, 0)
  data.writeUInt32LE(call.audit >>> 0, 4)
  for (const [i, arg] of (call.args ?? []).entries()) data.writeBigUInt64LE(arg, 16 + 8 * i)
  let a = 0
  let steps = 0
  for (let at = 0; ; at++) {
    if (at * 8 + 8 > code.length) throw new Error('ran past the end')
    const [op, jt, jf, k] = [
      code.readUInt16LE(at * 8),
      code.readUInt8(at * 8 + 2),
      code.readUInt8(at * 8 + 3),
      code.readUInt32LE(at * 8 + 4),
    ]
    steps++
    switch (op) {
      case 0x20: // ld [k]
        if (k % 4 !== 0 || k > 60) throw new Error(`load from ${k}`)
        a = data.readUInt32LE(k)
        break
      case 0x54: // and #k
        a = (a & k) >>> 0
        break
      case 0x05: // ja
        at += k
        break
      case 0x15: // jeq
        at += a === k ? jt : jf
        break
      case 0x25: // jgt
        at += a > k ? jt : jf
        break
      case 0x35: // jge
        at += a >= k ? jt : jf
        break
      case 0x45: // jset
        at += (a & k) !== 0 ? jt : jf
        break
      case 0x06: // ret #k
        return { value: k, steps }
      case 0x16: // ret a
        return { value: a, steps }
      default:
        throw new Error(`unknown instruction ${op} at ${at}`)
    }
  }
}

export const decision = (program: Uint8Array, call: Call): number => run(program, call).value
