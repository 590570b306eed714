/** What systemd hands to a service (sd_listen_fds(3)), handed on to the program of a container. */
export interface Activation {
  /** Descriptors from 3 on. */
  readonly count: number
  /** What tells the program of them. */
  readonly env: readonly string[]
}

const NONE: Activation = { count: 0, env: [] }

/**
 * The sockets that are ours by LISTEN_PID. As runc does it the program is told that they are process 1's, which it is unless it has its engine's PID namespace.
 */
export function activationOf(
  env: Readonly<Record<string, string | undefined>>,
  pid: number,
): Activation {
  const { LISTEN_FDS: text = '', LISTEN_PID: owner, LISTEN_FDNAMES: names } = env
  const count = /^\d{1,4}$/.test(text) ? Number(text) : 0
  if (count === 0 || owner !== String(pid)) return NONE
  return {
    count,
    env: [
      `LISTEN_FDS=${count}`,
      'LISTEN_PID=1',
      ...(names === undefined ? [] : [`LISTEN_FDNAMES=${names}`]),
    ],
  }
}
