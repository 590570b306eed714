import { execFileSync } from 'node:child_process'
import { Fault } from '../base/fault.ts'
import { groupProcesses } from '../cgroup/index.ts'
import { type Place, readRecord } from './record.ts'

/** The host's pids of a container's processes, as JSON or as a table of ps(1) with these of its options. */
export function processesText(place: Place, format: string, options: readonly string[]): string {
  const pids = groupProcesses(readRecord(place).cgroup).sort((a, b) => a - b)
  if (format === 'json') return `${JSON.stringify(pids)}\n`
  if (format !== 'table') {
    throw new Fault('INVALID_ARGUMENT', `invalid format ${JSON.stringify(format)}: table or json`)
  }
  const [head = '', ...lines] = execFileSync('ps', options.length > 0 ? [...options] : ['-ef'], {
    encoding: 'utf8',
  }).split('\n')
  const column = head
    .split(/\s+/)
    .filter((word) => word !== '')
    .indexOf('PID')
  if (column < 0) throw new Fault('INVALID_ARGUMENT', 'the options of ps give no column PID')
  const wanted = new Set(pids)
  const ours = lines.filter((line) => wanted.has(Number(line.trim().split(/\s+/)[column])))
  return `${[head, ...ours].join('\n')}\n`
}
