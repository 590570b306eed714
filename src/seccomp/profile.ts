import { Fault } from '../base/fault.ts'
import type { Seccomp, SeccompRule } from '../spec/runtime.ts'
import { MACHINES } from './constants.ts'

/** What a profile's conditions are asked of. */
export interface ProfileContext {
  /** The container's bounding set, as CAP_ names. */
  readonly capabilities: readonly string[]
  /** As Node names it. */
  readonly architecture: string
  /** `uname -r`. */
  readonly kernel: string
}

/** Names of Go's ports for conditions, and of libseccomp's architectures. */
const GO_NAMES: Readonly<Record<string, string>> = { x64: 'amd64', arm64: 'arm64' }

const RULES_MAX = 4096

type Json = Readonly<Record<string, unknown>>

/**
 * The OCI section that a profile gives for one container. Takes docker's form (archMap, includes, excludes, name) and the OCI's own. Values are judged by
 * `compileSeccomp`; this looks at shapes and conditions. An empty profile means no filter: undefined.
 */
export function readProfile(profile: unknown, context: ProfileContext): Seccomp | undefined {
  const root = object('the profile', profile)
  const rules = array('syscalls', root['syscalls'])
  if (root['defaultAction'] === undefined && rules.length === 0) return undefined
  const architectures = texts('architectures', root['architectures'])
  const archMap = array('archMap', root['archMap'])
  if (architectures.length > 0 && archMap.length > 0) {
    throw invalid('architectures and archMap exclude each other')
  }
  const section: Seccomp = {
    defaultAction: text('defaultAction', root['defaultAction']),
    syscalls: [],
  }
  if (archMap.length > 0) section.architectures = architecturesOf(archMap, context.architecture)
  else if (root['architectures'] !== undefined) section.architectures = architectures
  const errno = optional(root, 'defaultErrnoRet', number)
  if (errno !== undefined) section.defaultErrnoRet = errno
  const flags = optional(root, 'flags', texts)
  if (flags !== undefined) section.flags = flags
  for (const name of ['listenerPath', 'listenerMetadata'] as const) {
    const value = optional(root, name, text)
    if (value !== undefined) section[name] = value
  }
  for (const [i, value] of rules.entries()) {
    const field = `syscalls[${i}]`
    const rule = object(field, value)
    if (applies(field, rule, context)) section.syscalls?.push(ruleOf(field, rule))
  }
  return section
}

/** The native architecture and those that its entry lists with it; none where the map lacks it. */
function architecturesOf(archMap: readonly unknown[], architecture: string): string[] {
  const native = MACHINES[architecture]?.native.name
  for (const [i, value] of archMap.entries()) {
    const entry = object(`archMap[${i}]`, value)
    if (entry['architecture'] !== native) continue
    return [native, ...texts(`archMap[${i}].subArchitectures`, entry['subArchitectures'])].filter(
      (name) => name !== undefined,
    )
  }
  return []
}

function applies(field: string, rule: Json, context: ProfileContext): boolean {
  const go = GO_NAMES[context.architecture] ?? context.architecture
  const has = (name: string): boolean => context.capabilities.includes(name)
  const excludes = optional(rule, 'excludes', object)
  if (excludes) {
    const { arches, caps, minKernel } = conditions(`${field}.excludes`, excludes)
    if (arches.includes(go) || caps.some(has)) return false
    if (minKernel !== undefined && isAtLeast(context.kernel, minKernel)) return false
  }
  const includes = optional(rule, 'includes', object)
  if (includes) {
    const { arches, caps, minKernel } = conditions(`${field}.includes`, includes)
    if (arches.length > 0 && !arches.includes(go)) return false
    if (!caps.every(has)) return false
    if (minKernel !== undefined && !isAtLeast(context.kernel, minKernel)) return false
  }
  return true
}

function conditions(
  field: string,
  filter: Json,
): { arches: string[]; caps: string[]; minKernel: string | undefined } {
  return {
    arches: texts(`${field}.arches`, filter['arches']),
    caps: texts(`${field}.caps`, filter['caps']),
    minKernel: optional(filter, 'minKernel', text),
  }
}

/** Whether a kernel release is of at least version MAJOR.MINOR. */
function isAtLeast(release: string, minimum: string): boolean {
  const version = (value: string): [number, number] => {
    const match = /^(\d{1,4})\.(\d{1,4})/.exec(value)
    if (!match) throw invalid(`${JSON.stringify(value)} is no kernel version`)
    return [Number(match[1]), Number(match[2])]
  }
  const [[major, minor], [wantMajor, wantMinor]] = [version(release), version(minimum)]
  return major > wantMajor || (major === wantMajor && minor >= wantMinor)
}

function ruleOf(field: string, rule: Json): SeccompRule {
  const name = optional(rule, 'name', text)
  const names = texts(`${field}.names`, rule['names'])
  if (name !== undefined && name !== '' && names.length > 0) {
    throw invalid(`${field}: name and names exclude each other`)
  }
  const result: SeccompRule = {
    names: name ? [name] : names,
    action: text(`${field}.action`, rule['action']),
  }
  const errno = optional(rule, 'errnoRet', number)
  if (errno !== undefined) result.errnoRet = errno
  const args = array(`${field}.args`, rule['args'])
  if (args.length > 0) {
    result.args = args.map((value, i) => {
      const at = `${field}.args[${i}]`
      const arg = object(at, value)
      const second = optional(arg, 'valueTwo', wide)
      return {
        index: number(`${at}.index`, arg['index']),
        value: wide(`${at}.value`, arg['value']),
        op: text(`${at}.op`, arg['op']),
        ...(second === undefined ? {} : { valueTwo: second }),
      }
    })
  }
  return result
}

/** Go's encoder writes null for what is empty. */
function optional<T>(
  from: Json,
  name: string,
  read: (field: string, value: unknown) => T,
): T | undefined {
  const value = from[name]
  return value === undefined || value === null ? undefined : read(name, value)
}

function object(field: string, value: unknown): Json {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalid(`${field} is no object`)
  }
  return value as Json
}

function array(field: string, value: unknown): unknown[] {
  if (value === undefined || value === null) return []
  if (!Array.isArray(value) || value.length > RULES_MAX) {
    throw invalid(`${field} is no list of at most ${RULES_MAX} entries`)
  }
  return value
}

function texts(field: string, value: unknown): string[] {
  return array(field, value).map((entry) => text(field, entry))
}

function text(field: string, value: unknown): string {
  if (typeof value !== 'string') throw invalid(`${field} is no text`)
  return value
}

function number(field: string, value: unknown): number {
  if (typeof value !== 'number') throw invalid(`${field} is no number`)
  return value
}

function wide(field: string, value: unknown): number | bigint {
  return typeof value === 'bigint' ? value : number(field, value)
}

function invalid(reason: string): Fault {
  return new Fault('INVALID_ARGUMENT', `seccomp profile: ${reason}`)
}
