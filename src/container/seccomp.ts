import { createHash } from 'node:crypto'
import { release } from 'node:os'
import { compileSeccomp, defaultSeccomp, readProfile } from '../seccomp/index.ts'
import type { SeccompPlan } from '../spec/plan.ts'
import type { Seccomp } from '../spec/runtime.ts'

/** The linux.seccomp section for a container with these capabilities: of a profile in docker's or the OCI's form, or the default one. */
export function seccompSection(
  profile: unknown,
  capabilities: readonly string[],
): Seccomp | undefined {
  const context = { capabilities, architecture: process.arch, kernel: release() }
  return profile === undefined ? defaultSeccomp(context) : readProfile(profile, context)
}

/** Programs by the text of their section: a daemon compiles each once. */
const compiled = new Map<string, SeccompPlan>()
const COMPILED_MAX = 64

/** The section as a program; undefined for none. */
export function compiledSeccomp(
  section: Seccomp | undefined,
  warn: (message: string) => void = () => {},
): SeccompPlan | undefined {
  if (!section) return
  const key = createHash('sha256').update(JSON.stringify(section)).digest('hex')
  const known = compiled.get(key)
  if (known) return known
  const { program, flags, warnings } = compileSeccomp(section, process.arch)
  for (const warning of warnings) warn(warning)
  if (compiled.size >= COMPILED_MAX) compiled.clear()
  const plan = { program, flags }
  compiled.set(key, plan)
  return plan
}
