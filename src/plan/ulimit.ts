import { Fault } from '../base/fault.ts'

const ULIMITS = [
  'core',
  'cpu',
  'data',
  'fsize',
  'locks',
  'memlock',
  'msgqueue',
  'nice',
  'nofile',
  'nproc',
  'rss',
  'rtprio',
  'rttime',
  'sigpending',
  'stack',
  'as',
]

/** `NAME=SOFT[:HARD]`; -1 or unlimited is no limit. */
export function parseUlimit(text: string): { name: string; soft: number; hard: number } {
  const bad = (reason: string): Fault =>
    new Fault('INVALID_ARGUMENT', `"${text}" is no NAME=SOFT[:HARD]: ${reason}`)
  const match = /^([a-z]+)=([^:]+)(?::([^:]+))?$/.exec(text)
  if (!match) throw bad('for example nofile=1024:4096')
  const name = match[1] ?? ''
  if (!ULIMITS.includes(name)) throw bad(`no limit is called ${name} (${ULIMITS.join(', ')})`)
  const value = (given: string): number => {
    if (given === '-1' || given === 'unlimited') return -1
    const number = /^\d+$/.test(given) ? Number(given) : Number.NaN
    if (!Number.isSafeInteger(number)) throw bad(`"${given}" is no whole number`)
    return number
  }
  const soft = value(match[2] ?? '')
  const hard = match[3] === undefined ? soft : value(match[3])
  if (hard !== -1 && (soft === -1 || soft > hard)) throw bad('the soft limit is above the hard one')
  return { name, soft, hard }
}
