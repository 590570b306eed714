import type { HookPlan } from '../spec/plan.ts'
import type { Hook, Hooks } from '../spec/runtime.ts'
import { ARGUMENT_BYTES_MAX, absolute, integer, list, text } from './check.ts'

export const HOOK_KINDS = [
  'prestart',
  'createRuntime',
  'createContainer',
  'startContainer',
  'poststart',
  'poststop',
] as const satisfies readonly (keyof Hooks)[]

export type HookKind = (typeof HOOK_KINDS)[number]

const HOOKS_MAX = 256
const ARGUMENTS_MAX = 4096
/** Seconds; a day is more than any engine waits. */
const TIMEOUT_MAX = 86_400

/** The hooks of a configuration, judged. A hook without `env` has an empty environment (runtime-spec, "POSIX-platform Hooks"). */
export function planHooks(hooks: Hooks | undefined): Record<HookKind, HookPlan[]> {
  const planned = (kind: HookKind): HookPlan[] =>
    list(`hooks.${kind}`, hooks?.[kind], HOOKS_MAX).map((hook, i) =>
      planHook(`hooks.${kind}[${i}]`, hook),
    )
  return {
    prestart: planned('prestart'),
    createRuntime: planned('createRuntime'),
    createContainer: planned('createContainer'),
    startContainer: planned('startContainer'),
    poststart: planned('poststart'),
    poststop: planned('poststop'),
  }
}

function planHook(field: string, { path, args, env, timeout }: Hook): HookPlan {
  const program = absolute(`${field}.path`, path)
  const texts = (name: string, values: readonly string[] | undefined): string[] =>
    list(`${field}.${name}`, values, ARGUMENTS_MAX).map((value, i) =>
      text(`${field}.${name}[${i}]`, value, ARGUMENT_BYTES_MAX),
    )
  const given = texts('args', args)
  return {
    path: program,
    // As execv(3): the first one is the program's own name.
    args: given.length > 0 ? given : [program],
    env: texts('env', env),
    timeoutMs:
      timeout === undefined || timeout === null
        ? 0
        : integer(`${field}.timeout`, timeout, 1, TIMEOUT_MAX) * 1000,
  }
}
