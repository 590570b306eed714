import { Fault } from '../../base/fault.ts'

export { parseUlimit } from '../../plan/ulimit.ts'

/** `NAME=VALUE`. */
export function parseSysctl(text: string): [name: string, value: string] {
  const at = text.indexOf('=')
  const name = text.slice(0, Math.max(at, 0)).replaceAll('/', '.')
  if (!/^[a-zA-Z0-9_-]+(\.[a-zA-Z0-9_:@*-]+)+$/.test(name)) {
    throw new Fault(
      'INVALID_ARGUMENT',
      `"${text}" is no sysctl: NAME=VALUE such as net.core.somaxconn=1024`,
    )
  }
  return [name, text.slice(at + 1)]
}

export type RestartPolicy = 'no' | 'always' | 'on-failure' | 'unless-stopped'

/** `no`, `always`, `unless-stopped`, `on-failure[:N]`. 0 is no bound. */
export function parseRestart(text: string): { policy: RestartPolicy; maximumRetries: number } {
  const match = /^(no|always|unless-stopped|on-failure)(?::(\d{1,9}))?$/.exec(text)
  const policy = match?.[1] as RestartPolicy | undefined
  if (policy !== undefined && (match?.[2] === undefined || policy === 'on-failure')) {
    return { policy, maximumRetries: Number(match?.[2] ?? 0) }
  }
  throw new Fault(
    'INVALID_ARGUMENT',
    `"${text}" is no restart policy: no, always, unless-stopped, on-failure or on-failure:N`,
  )
}
