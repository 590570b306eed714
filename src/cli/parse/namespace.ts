import { Fault } from '../../base/fault.ts'

/** `private`, `host`, `container:ID`, `ns:PATH`; `extra` are words of this kind of namespace only. */
export function parseNamespace(...extra: string[]): (text: string) => string {
  return (text) => {
    if (text === 'private' || text === 'host' || extra.includes(text)) return text
    if (/^container:.+$/s.test(text) || /^ns:\/.+$/s.test(text)) return text
    const words = ['private', 'host', ...extra, 'container:ID', 'ns:/PATH']
    throw new Fault('INVALID_ARGUMENT', `"${text}" is none of ${words.join(', ')}`)
  }
}

/** As parseNamespace, or a network's name. docker's `default` is the bridge. */
export function parseNetwork(text: string): string {
  if (text === 'default') return 'bridge'
  if (/^container:.+$/s.test(text) || /^ns:\/.+$/s.test(text)) return text
  if (/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(text)) return text
  throw new Fault(
    'INVALID_ARGUMENT',
    `"${text}" is none of none, host, bridge, container:ID, ns:/PATH and the name of a network`,
  )
}

/** `host`, `auto`, or `UID:GID:SIZE`: SIZE ids from 0 on are the host's from UID and GID on. */
export function parseUserNamespace(text: string): string {
  if (text === 'host' || text === 'auto') return text
  if (text === 'private') return 'auto'
  if (/^\d{1,10}:\d{1,10}:\d{1,10}$/.test(text)) return text
  throw new Fault(
    'INVALID_ARGUMENT',
    `"${text}" is none of host, auto and UID:GID:SIZE such as 100000:100000:65536`,
  )
}

const SIGNALS =
  'HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS'.split(
    ' ',
  )

/** A signal's name as the engine takes it: SIGTERM, RTMIN+3 or a number, in any spelling. */
export function parseSignal(text: string): string {
  const name = text.toUpperCase().replace(/^SIG/, '')
  if (/^\d{1,2}$/.test(name) && Number(name) >= 1 && Number(name) <= 64) return String(Number(name))
  if (SIGNALS.includes(name)) return `SIG${name}`
  if (/^RTMIN(\+([1-9]|[12]\d|30))?$/.test(name) || /^RTMAX(-([1-9]|[12]\d|30))?$/.test(name)) {
    return `SIG${name}`
  }
  throw new Fault('INVALID_ARGUMENT', `"${text}" is no signal: a name such as TERM, or 1 to 64`)
}
