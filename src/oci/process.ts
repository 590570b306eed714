import { Fault } from '../base/fault.ts'
import type { Capabilities, Process } from '../spec/runtime.ts'

/** The options of `exec`, of which each changes one field of the container's own process. */
export interface ProcessOptions {
  readonly cwd?: string
  readonly env?: readonly string[]
  readonly tty?: boolean
  readonly user?: string
  readonly additionalGids?: readonly string[]
  readonly processLabel?: string
  readonly apparmor?: string
  readonly noNewPrivs?: boolean
  readonly cap?: readonly string[]
}

export function processOf(own: Process, args: readonly string[], o: ProcessOptions): Process {
  const groups = o.additionalGids?.map((group) => id('--additional-gids', group))
  return {
    ...own,
    args: [...args],
    terminal: o.tty ?? false,
    env: [...(own.env ?? []), ...(o.env ?? [])],
    ...(o.cwd === undefined ? {} : { cwd: o.cwd }),
    ...(o.processLabel === undefined ? {} : { selinuxLabel: o.processLabel }),
    ...(o.apparmor === undefined ? {} : { apparmorProfile: o.apparmor }),
    ...(o.noNewPrivs ? { noNewPrivileges: true } : {}),
    ...(o.cap === undefined ? {} : { capabilities: withCapabilities(own.capabilities, o.cap) }),
    user: {
      ...own.user,
      ...(o.user === undefined ? {} : userOf(o.user)),
      ...(groups === undefined
        ? {}
        : { additionalGids: [...(own.user.additionalGids ?? []), ...groups] }),
    },
  }
}

/** Never in the inheritable set: a program with file capabilities would get more than was given (CVE-2022-29162). */
function withCapabilities(own: Capabilities | undefined, more: readonly string[]): Capabilities {
  const add = (set: readonly string[] | undefined): string[] => [
    ...new Set([...(set ?? []), ...more]),
  ]
  // What the configuration has as inheritable already, a program of another user gets too, as with runc.
  const inherited = more.filter((name) => own?.inheritable?.includes(name))
  return {
    ...own,
    ...(inherited.length === 0
      ? {}
      : { ambient: [...new Set([...(own?.ambient ?? []), ...inherited])] }),
    bounding: add(own?.bounding),
    effective: add(own?.effective),
    permitted: add(own?.permitted),
  }
}

/** `UID[:GID]`, numbers only: a name would be looked up in the container (CVE-2026-30892). */
function userOf(text: string): { uid: number; gid?: number } {
  const [uid = '', gid, ...rest] = text.split(':')
  if (rest.length > 0) throw new Fault('INVALID_ARGUMENT', `--user ${text}: more than UID:GID`)
  return {
    uid: id('--user', uid),
    ...(gid === undefined ? {} : { gid: id('--user', gid) }),
  }
}

function id(option: string, text: string): number {
  if (!/^\d{1,10}$/.test(text)) {
    throw new Fault('INVALID_ARGUMENT', `${option}: ${JSON.stringify(text)} is no number`)
  }
  return Number(text)
}
