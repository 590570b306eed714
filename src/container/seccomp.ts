import { createHash } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { release } from 'node:os'
import { join } from 'node:path'
import { isErrno } from '../base/fault.ts'
import { writeFileAtomic } from '../base/file.ts'
import { defaultSeccomp } from '../seccomp/default.ts'
import { readProfile } from '../seccomp/profile.ts'
import type { SeccompPlan } from '../spec/plan.ts'
import type { Seccomp } from '../spec/runtime.ts'

/** The linux.seccomp section for a container with these capabilities: of a profile in docker's or the OCI's form, or the default one. */
export function seccompSection(
  profile: unknown,
  capabilities: readonly string[],
): Seccomp | undefined {
  const context = { capabilities, architecture: process.arch, kernel: release() }
  if (profile !== undefined) return readProfile(profile, context)
  const key = capabilities.join()
  const known = defaults.get(key)
  if (known) return known
  if (defaults.size >= COMPILED_MAX) defaults.clear()
  const section = defaultSeccomp(context)
  defaults.set(key, section)
  return section
}

/** Default sections by capabilities: most containers of a daemon share one, and its program is found by it. */
const defaults = new Map<string, Seccomp>()
/** Programs by their section, where it is the same object: a section has some thousand words. */
const bySection = new WeakMap<Seccomp, SeccompPlan>()

/** Programs by the text of their section: a daemon compiles each once. */
const compiled = new Map<string, SeccompPlan>()
const COMPILED_MAX = 64
/** Programs kept on disk; more and the directory is begun anew. */
const KEPT_MAX = 256
/** Part of a kept program's name: another compiler's are not taken. */
const COMPILER = 1

/**
 * The section as a program; undefined for none. `directory` keeps programs for later commands, by content: the first compilation in a process
 * costs 10 ms.
 */
export async function compiledSeccomp(
  section: Seccomp | undefined,
  directory: string,
  warn: (message: string) => void = () => {},
): Promise<SeccompPlan | undefined> {
  if (!section) return
  const found = bySection.get(section) ?? (await compiledByText(section, directory, warn))
  bySection.set(section, found)
  return found
}

async function compiledByText(
  section: Seccomp,
  directory: string,
  warn: (message: string) => void,
): Promise<SeccompPlan> {
  const text = JSON.stringify(section, (_key, value) =>
    typeof value === 'bigint' ? `${value}n` : value,
  )
  const key = createHash('sha256').update(`${COMPILER} ${process.arch} ${text}`).digest('hex')
  const path = join(directory, key)
  const known = compiled.get(key) ?? readKept(path)
  if (known) {
    compiled.set(key, known)
    return known
  }
  const { compileSeccomp } = await import('../seccomp/compile.ts')
  const { program, flags, warnings } = compileSeccomp(section, process.arch)
  for (const warning of warnings) warn(warning)
  if (compiled.size >= COMPILED_MAX) compiled.clear()
  const plan = { program, flags }
  compiled.set(key, plan)
  // One with warnings is compiled each time, so that each time they are told.
  if (warnings.length === 0) keep(directory, path, plan)
  return plan
}

/** Flags in the first four bytes, then the program; a struct sock_filter has eight. */
function readKept(path: string): SeccompPlan | undefined {
  try {
    const bytes = readFileSync(path)
    if (bytes.length < 12 || bytes.length % 8 !== 4) return
    return { flags: bytes.readUInt32LE(0), program: bytes.subarray(4) }
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return
    throw error
  }
}

function keep(directory: string, path: string, plan: SeccompPlan): void {
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 })
    const names = readdirSync(directory)
    if (names.length >= KEPT_MAX) for (const name of names) rmSync(join(directory, name))
    const flags = Buffer.alloc(4)
    flags.writeUInt32LE(plan.flags)
    writeFileAtomic(path, Buffer.concat([flags, plan.program]))
  } catch (error) {
    // Only time is lost: a full disk must not keep a container from starting, nor another command that cleans here.
    if (!isErrno(error, 'ENOSPC', 'EDQUOT', 'EROFS', 'ENOENT')) throw error
  }
}
