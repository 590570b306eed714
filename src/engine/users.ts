import { Fault } from '../base/fault.ts'

/** Bytes of /etc/passwd or /etc/group that are read of a root: an image's file may be endless (CVE-2026-47262). */
export const ACCOUNT_FILE_BYTES_MAX = 8 * 1024 * 1024
/** The largest id that Linux accepts: (uid_t)-1 means "no change". */
const ID_MAX = 4294967294
/** setgroups(2) refuses more. */
const GROUPS_MAX = 65536

export interface Account {
  readonly uid: number
  readonly gid: number
  readonly groups: readonly number[]
  readonly home: string
  readonly name: string
}

/**
 * The ids behind docker's `user[:group]`, from the root's own passwd and group text. A numeric user need not be listed; one out of range is an
 * error and never looked up as a name (CVE-2024-40635, CVE-2026-46680). `extra` are --group-add's names or numbers.
 */
export function resolveUser(
  user: string,
  passwd: string,
  group: string,
  extra: readonly string[] = [],
): Account {
  const parts = user.split(':')
  if (parts.length > 2) throw invalid(user, 'it has more than one colon')
  const [who = '', whichGroup] = parts
  if (parts.length === 2 && (who === '' || whichGroup === ''))
    throw invalid(user, 'a part is empty')

  const accounts = rows(passwd, 7)
  const byNumber = numeric(who, user)
  const account =
    who === ''
      ? accounts.find((row) => row[2] === '0')
      : accounts.find((row) =>
          byNumber === undefined ? row[0] === who : Number(row[2]) === byNumber,
        )
  if (byNumber === undefined && who !== '' && !account) {
    throw new Fault('NOT_FOUND', `no user "${who}" in the container's /etc/passwd`)
  }
  const uid = byNumber ?? (account ? listed(account[2], user) : 0)
  const groups = rows(group, 4)
  const gid =
    whichGroup === undefined
      ? account
        ? listed(account[3], user)
        : 0
      : groupId(whichGroup, groups, user)
  const supplementary = new Set<number>()
  // As docker and podman do: a named group is the only one; otherwise the user's groups come along.
  if (whichGroup === undefined && account) {
    for (const row of groups) {
      if (row[3]?.split(',').includes(account[0] ?? '')) supplementary.add(listed(row[2], user))
    }
  }
  for (const name of extra) supplementary.add(groupId(name, groups, name))
  if (supplementary.size > GROUPS_MAX) throw invalid(user, `it has more than ${GROUPS_MAX} groups`)
  return {
    uid,
    gid,
    groups: [...supplementary].filter((id) => id !== gid),
    home: homeOf(account?.[5]),
    name: account?.[0] ?? '',
  }
}

/** A home directory goes into the environment: only an absolute path of one line is taken. */
function homeOf(home: string | undefined): string {
  return home?.startsWith('/') && !/[\r\n\0]/.test(home) ? home : '/'
}

function rows(text: string, fields: number): string[][] {
  return text
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => line.split(':'))
    .filter((row) => row.length >= Math.min(fields, 4))
}

function groupId(name: string, groups: readonly string[][], user: string): number {
  const number = numeric(name, user)
  if (number !== undefined) return number
  const row = groups.find((candidate) => candidate[0] === name)
  if (!row) throw new Fault('NOT_FOUND', `no group "${name}" in the container's /etc/group`)
  return listed(row[2], user)
}

function listed(field: string | undefined, user: string): number {
  const id = numeric(field ?? '', user)
  if (id === undefined)
    throw invalid(user, `the container's account files give it the id "${field}"`)
  return id
}

/** A number in range, undefined for a name; all digits out of range is an error. */
function numeric(text: string, user: string): number | undefined {
  if (!/^-?[0-9]+$/.test(text)) return undefined
  const id = Number(text)
  if (id < 0 || id > ID_MAX)
    throw invalid(user, `the id ${text} is out of the range 0 to ${ID_MAX}`)
  return id
}

function invalid(user: string, why: string): Fault {
  return new Fault('INVALID_ARGUMENT', `the user "${user}" is not usable: ${why}`)
}
