import { Fault } from '../../base/fault.ts'

export interface SecurityOptions {
  seccomp?: string
  apparmor?: string
  noNewPrivileges: boolean
  mask: string[]
  unmask: string[]
}

/** All --security-opt values together. */
export function parseSecurity(options: readonly string[]): SecurityOptions {
  const security: SecurityOptions = { noNewPrivileges: false, mask: [], unmask: [] }
  for (const option of options) securityOption(security, option)
  return security
}

function securityOption(security: SecurityOptions, option: string): void {
  const bad = (reason: string): Fault =>
    new Fault('INVALID_ARGUMENT', `option --security-opt ${option}: ${reason}`)
  // docker still takes its old form with a colon.
  const [, key = '', value] = /^([a-z-]+)(?:[=:](.*))?$/s.exec(option) ?? []
  const text = (): string => {
    if (value === undefined || value === '') throw bad(`${key} needs a value`)
    return value
  }
  switch (key) {
    case 'seccomp':
      if (text() !== 'builtin') security.seccomp = text()
      return
    case 'apparmor':
      security.apparmor = text()
      return
    case 'no-new-privileges':
      if (value !== undefined && value !== 'true' && value !== 'false') {
        throw bad(`"${value}" is neither true nor false`)
      }
      security.noNewPrivileges = value !== 'false'
      return
    case 'mask':
      security.mask.push(...paths(text(), bad))
      return
    case 'unmask':
      if (text() === 'ALL' || text() === 'all') security.unmask.push('ALL')
      else security.unmask.push(...paths(text(), bad))
      return
    case 'systempaths':
      if (text() !== 'unconfined') throw bad('the one value is unconfined')
      security.unmask.push('ALL')
      return
    case 'label':
      // "label=disable" asks for what is so.
      if (text() === 'disable') return
      throw bad('SELinux labels are not supported (label=disable is)')
    case 'proc-opts':
    case 'writable-cgroups':
    case 'credentialspec':
      throw bad('not supported')
    default:
      throw bad(
        'unknown (seccomp=, apparmor=, no-new-privileges, mask=, unmask=, systempaths=unconfined)',
      )
  }
}

function paths(text: string, bad: (reason: string) => Fault): string[] {
  return text.split(':').map((path) => {
    if (!path.startsWith('/')) throw bad(`"${path}" is no absolute path`)
    return path
  })
}
