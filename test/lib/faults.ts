import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'
import { binding } from '../../src/kernel/binding.ts'
import { REPOSITORY } from './images.ts'

type Call = (...args: unknown[]) => unknown
type Calls = Record<string, Call>

/** Those of Node that berth uses. Not `existsSync`, which has no way to fail, and not `closeSync`: locks and directories are always closed. */
const NODE_CALLS = [
  'appendFileSync',
  'chmodSync',
  'chownSync',
  'fstatSync',
  'fsyncSync',
  'mkdirSync',
  'openSync',
  'readdirSync',
  'readFileSync',
  'readlinkSync',
  'readSync',
  'renameSync',
  'rmdirSync',
  'rmSync',
  'statSync',
  'symlinkSync',
  'unlinkSync',
  'writeFileSync',
  'writeSync',
] as const
/** Calls of the addon that give a promise. */
const PROMISES = [
  'flockWait',
  'syncfs',
  'realPath',
  'pidfdWait',
  'pollPriority',
  'removeTree',
  'treeUsage',
  'netnsStats',
  'connectIn',
]

let count = 0
let failAt = 0
let failed: string | undefined
let wrapped = false
let isDeadly = false

/**
 * Does `act` with the nth kernel call of this process, of the addon's or of node:fs's synchronous ones, failing with EIO. `failed` is that call; undefined
 * where there were fewer than n.
 */
export async function withFault<T>(
  n: number,
  act: () => Promise<T>,
): Promise<{ failed: string | undefined; result?: T; error?: unknown }> {
  wrap()
  count = 0
  failed = undefined
  failAt = n
  try {
    const result = await act()
    failAt = 0
    return { failed, result }
  } catch (error) {
    failAt = 0
    return { failed, error }
  }
}

/** Kills this process before its nth kernel call from now on, of those that withFault counts; `n` of 0 only counts. */
export function dieAt(n: number): { calls: () => number } {
  wrap()
  count = 0
  failAt = n === 0 ? Number.MAX_SAFE_INTEGER : n
  isDeadly = true
  return { calls: () => count }
}

function wrap(): void {
  if (wrapped) return
  wrapped = true
  const node = fs as unknown as Calls
  for (const name of NODE_CALLS) replace(node, name, false)
  syncBuiltinESMExports()
  const addon = binding as unknown as Calls
  for (const name of Object.keys(addon)) {
    if (typeof addon[name] === 'function') replace(addon, name, PROMISES.includes(name))
  }
}

function replace(on: Calls, name: string, promise: boolean): void {
  const real = on[name] as Call
  on[name] = (...args) => {
    if (failAt === 0 || ++count !== failAt) return real.apply(on, args)
    if (isDeadly) process.kill(process.pid, 'SIGKILL')
    failed = name
    const message = `EIO: i/o error, ${name}`
    const error = Object.assign(new Error(message), { code: 'EIO', errno: -5, syscall: name })
    if (promise) return Promise.reject(error)
    throw error
  }
}

/** What stands in for native/init/call.cc: the number is read anew at each launch of a process, from a file. */
const COUNTER = (file: string): string => `
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
namespace berth {
static long calls = 0;
static long fail = 0;
void BeginFaults() {
  char text[32] = "";
  const int fd = open("${file}", O_RDONLY | O_CLOEXEC);
  if (fd >= 0) {
    (void)!read(fd, text, sizeof(text) - 1);
    close(fd);
  }
  calls = 0;
  fail = strtol(text, nullptr, 10);
}
bool FaultHere() { return fail > 0 && ++calls == fail; }
}  // namespace berth
`

/** A berth-monitor or berth-launch in `directory` whose nth call on the way into a container fails, n being the content of the file that is returned. */
export function faultyMonitor(
  directory: string,
  folder: 'monitor' | 'launch' = 'monitor',
): { program: string; nth: string } {
  const nth = join(directory, 'nth')
  const counter = join(directory, 'counter.cc')
  const program = join(directory, `berth-${folder}`)
  fs.writeFileSync(counter, COUNTER(nth))
  fs.writeFileSync(nth, '0')
  const sources = ['common', 'init', folder].flatMap((part) =>
    fs
      .readdirSync(join(REPOSITORY, 'native', part))
      .filter((name) => name.endsWith('.cc') && name !== 'call.cc')
      .map((name) => join(REPOSITORY, 'native', part, name)),
  )
  const flags = ['-std=c++20', '-O0', '-static', '-fno-exceptions', '-fno-rtti', '-DBERTH_FAULTS']
  const built = spawnSync('g++', [...flags, '-o', program, counter, ...sources], {
    encoding: 'utf8',
  })
  if (built.status !== 0) throw new Error(`the test build of the ${folder} fails:\n${built.stderr}`)
  return { program, nth }
}
