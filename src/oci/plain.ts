import { planHooks } from '../plan/index.ts'
import type { Spec } from '../spec/runtime.ts'

/**
 * Whether start, kill and delete of a container are but a few system calls: no hooks from its start on, no listener for seccomp or for readiness, with the end of
 * the first process all others have ended, and no mount is left. Whatever else is to be undone at a deletion belongs here, too.
 */
export function isPlain({ hooks, linux }: Spec, notify: string | undefined): boolean {
  const { startContainer, poststart, poststop } = planHooks(hooks)
  return (
    startContainer.length + poststart.length + poststop.length === 0 &&
    !linux?.seccomp?.listenerPath &&
    notify === undefined &&
    hasOwnPids(linux) &&
    !sharesMounts(linux)
  )
}

/** Its root is mounted in the mount namespace of whoever has made it. */
export function sharesMounts(linux: Spec['linux'] | undefined): boolean {
  return !(linux?.namespaces ?? []).some(({ type }) => type === 'mount')
}

/** Not the host's PID namespace, nor one that is joined: in those the first process is one among others. */
export function hasOwnPids(linux: Spec['linux'] | undefined): boolean {
  return (linux?.namespaces ?? []).some(({ type, path }) => type === 'pid' && !path)
}
