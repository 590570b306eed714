import { Fault } from '../base/fault.ts'
import type { AccountFiles } from '../engine/account-files.ts'
import { type Account, resolveUser } from '../engine/users.ts'
import { invalid, show, text } from '../plan/check.ts'
import type { LinuxContainerSecurityContext } from '../spec/cri.ts'
import { groupIds, userId, within } from './check.ts'

const NAME_BYTES_MAX = 256
const SECURITY = 'linux.security_context'

/**
 * Who a container's programs run as: what the client asks for, else the image's USER, looked up in the container's own files. `groups` holds the
 * primary group as well: without it in the list, setgid(2) to another group would drop what a file denies to this one (CVE-2022-36109).
 */
export function containerUser(
  context: LinuxContainerSecurityContext | null,
  imageUser: string,
  { passwd, group }: AccountFiles,
): Account {
  const asked = askedUser(context)
  const who = asked ?? { field: "the image's USER", user: imageUser }
  const account = within(who.field, () => resolveUser(who.user, passwd, group))
  if (asked?.mustBeListed && account.name === '') {
    throw new Fault('NOT_FOUND', `${who.field}: no user ${show(who.user)} in /etc/passwd`)
  }
  const gid =
    context?.runAsGroup == null
      ? account.gid
      : userId(`${SECURITY}.run_as_group`, context.runAsGroup.value)
  const extra = groupIds(`${SECURITY}.supplemental_groups`, context?.supplementalGroups ?? [])
  const policy = context?.supplementalGroupsPolicy ?? 'Merge'
  if (policy !== 'Merge' && policy !== 'Strict') {
    throw invalid(`${SECURITY}.supplemental_groups_policy`, `there is no policy ${show(policy)}`)
  }
  const ofImage = policy === 'Strict' ? [] : account.groups
  return { ...account, gid, groups: [...new Set([gid, ...ofImage, ...extra])] }
}

interface AskedUser {
  readonly field: string
  readonly user: string
  readonly mustBeListed?: boolean
}

function askedUser(context: LinuxContainerSecurityContext | null): AskedUser | undefined {
  if (!context) return undefined
  const { runAsUser, runAsUsername, runAsGroup } = context
  if (runAsUser !== null) {
    const field = `${SECURITY}.run_as_user`
    if (runAsUsername !== '') throw invalid(field, 'excludes run_as_username')
    return { field, user: String(userId(field, runAsUser.value)) }
  }
  if (runAsUsername !== '') {
    const field = `${SECURITY}.run_as_username`
    text(field, runAsUsername, NAME_BYTES_MAX)
    // A colon would make it `user:group`.
    if (/[:\s]/.test(runAsUsername)) throw invalid(field, `${show(runAsUsername)} is no user name`)
    return { field, user: runAsUsername, mustBeListed: true }
  }
  if (runAsGroup !== null) {
    throw invalid(`${SECURITY}.run_as_group`, 'needs run_as_user or run_as_username')
  }
  return undefined
}

/** What a pod asks for its own: it has no process, so no more than that it makes sense. */
export function checkPodUser(
  context: {
    runAsUser: { value: string } | null
    runAsGroup: { value: string } | null
    supplementalGroups: readonly string[]
  } | null,
): void {
  if (!context) return
  const { runAsUser, runAsGroup, supplementalGroups } = context
  if (runAsUser) userId(`${SECURITY}.run_as_user`, runAsUser.value)
  if (runAsGroup) {
    userId(`${SECURITY}.run_as_group`, runAsGroup.value)
    if (!runAsUser) throw invalid(`${SECURITY}.run_as_group`, 'needs run_as_user')
  }
  groupIds(`${SECURITY}.supplemental_groups`, supplementalGroups)
}
