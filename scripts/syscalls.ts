/**
 * Writes src/seccomp/syscalls.ts from the kernel's user headers, run by hand when a kernel has new calls:
 *
 *   node dist/scripts/syscalls.js X86_INCLUDE ARM_INCLUDE
 *
 * X86_INCLUDE holds asm/unistd_64.h, asm/unistd_32.h and asm/unistd_x32.h (Debian's linux-libc-dev: /usr/include/x86_64-linux-gnu); ARM_INCLUDE holds
 * asm/unistd-eabi.h (linux-libc-dev-armhf-cross). aarch64 has the generic table. `gcc` expands them.
 */
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'

/** Calls newer than the headers of Debian 12 (Linux 6.1), as the kernel's syscall tables have them: one number for all architectures. */
const NEWER: Record<string, number> = {
  cachestat: 451,
  fchmodat2: 452,
  map_shadow_stack: 453,
  futex_wake: 454,
  futex_wait: 455,
  futex_requeue: 456,
  statmount: 457,
  listmount: 458,
  lsm_get_self_attr: 459,
  lsm_set_self_attr: 460,
  lsm_list_modules: 461,
  mseal: 462,
  setxattrat: 463,
  getxattrat: 464,
  listxattrat: 465,
  removexattrat: 466,
  open_tree_attr: 467,
  file_getattr: 468,
  file_setattr: 469,
  listns: 470,
}

/** What the 64-bit ARM ports asks of the generic table (arch/arm64/include/uapi/asm/unistd.h). */
const AARCH64 = [
  'RENAMEAT',
  'NEW_STAT',
  'SET_GET_RLIMIT',
  'TIME32_SYSCALLS',
  'SYS_CLONE3',
  'MEMFD_SECRET',
]

const [x86 = '/usr/include/x86_64-linux-gnu', arm = '/usr/arm-linux-gnueabihf/include'] =
  process.argv.slice(2)

const tables: Record<string, Map<string, number>> = {
  x86_64: new Map([
    ...numbers([`-I${x86}`], 'asm/unistd_64.h'),
    ['uretprobe', 335],
    ['uprobe', 336],
  ]),
  x86: numbers([`-I${x86}`], 'asm/unistd_32.h'),
  x32: numbers([`-I${x86}`, '-D__X32_SYSCALL_BIT=0x40000000'], 'asm/unistd_x32.h'),
  aarch64: numbers(
    [...AARCH64.map((name) => `-D__ARCH_WANT_${name}`), '-D__BITS_PER_LONG=64'],
    'asm-generic/unistd.h',
  ),
  arm: numbers(
    ['-nostdinc', `-I${arm}`, '-D__NR_SYSCALL_BASE=0'],

    'asm/unistd-eabi.h',
  ),
}
// Of the "ARM private" range, which no header numbers as the others (arch/arm/include/uapi/asm/unistd.h).
for (const [i, name] of [
  'breakpoint',
  'cacheflush',
  'usr26',
  'usr32',
  'set_tls',
  'get_tls',
].entries()) {
  tables['arm']?.set(name, 0x0f0001 + i)
}
// libseccomp has both names for one call.
tables['arm']?.set('sync_file_range2', 341)

const texts = Object.entries(tables).map(([name, table]) => {
  for (const [call, number] of Object.entries(NEWER)) {
    // For programs of 64 bits alone (arch/x86/entry/syscalls/syscall_64.tbl).
    if (name === 'x32' && call === 'map_shadow_stack') continue
    const bit = name === 'x32' ? 0x40000000 : 0
    table.set(call, bit + number)
  }
  return `  ${name}: \`\n${wrap(runs(table))}\`,\n`
})
writeFileSync(
  'src/seccomp/syscalls.ts',
  `/**
 * Numbers of system calls by libseccomp's names, written by scripts/syscalls.ts. A number is followed by the names of that call and the next ones,
 * one by one. Those of x32 are without the bit that marks them (0x40000000).
 */
export const SYSCALLS = {
${texts.join('')}} as const
`,
)

function numbers(options: string[], ...headers: string[]): Map<string, number> {
  const input = headers.map((header) => `#include <${header}>\n`).join('')
  const output = execFileSync('gcc', ['-E', '-dM', ...options, '-'], { input, encoding: 'utf8' })
  const defines = new Map<string, string>()
  for (const [, name, value] of output.matchAll(/^#define (__\w+) (.+)$/gm)) {
    if (name !== undefined && value !== undefined) defines.set(name, value)
  }
  const evaluate = (text: string): number => {
    let sum = 0
    for (const term of text.replace(/[()\s]/g, '').split('+')) {
      const value = defines.get(term)
      sum += value === undefined ? Number(term) : evaluate(value)
    }
    return sum
  }
  const found = new Map<string, number>()
  for (const [name, value] of defines) {
    const call = /^__NR_(\w+)$/.exec(name)?.[1]
    if (call === undefined || ['syscalls', 'SYSCALL_BASE', 'arch_specific_syscall'].includes(call))
      continue
    const number = evaluate(value)
    if (!Number.isInteger(number)) throw new Error(`no number for ${name}: ${value}`)
    found.set(call, number)
  }
  return found
}

function runs(table: Map<string, number>): string[] {
  const words: string[] = []
  let next = -1
  for (const [name, number] of [...table].sort((a, b) => a[1] - b[1] || (a[0] < b[0] ? -1 : 1))) {
    if (number !== next) words.push(String(number & ~0x40000000))
    words.push(name)
    next = number + 1
  }
  return words
}

function wrap(words: readonly string[]): string {
  let text = ''
  let line = ''
  for (const word of words) {
    if (line.length + word.length > 140) {
      text += `${line.trimEnd()}\n`
      line = ''
    }
    line += `${word} `
  }
  return text + line.trimEnd()
}
