import { execFileSync } from 'node:child_process'
import { Fault, isErrno } from '../base/fault.ts'
import { groupProcesses } from '../cgroup/index.ts'
import { ownCgroup } from './cgroup.ts'
import { type Place, readRecord } from './record.ts'

/** All processes of a host with their arguments: some ten thousand, or some with arguments without end. */
const PS_BYTES_MAX = 256 * 1024 * 1024

/** The host's pids of a container's processes, as JSON or as a table of ps(1) with these of its options. */
export function processesText(place: Place, format: string, options: readonly string[]): string {
  using cgroup = ownCgroup(readRecord(place))
  const pids = cgroup ? groupProcesses(cgroup.path).sort((a, b) => a - b) : []
  if (format === 'json') return `${JSON.stringify(pids)}\n`
  if (format !== 'table') {
    throw new Fault('INVALID_ARGUMENT', `invalid format ${JSON.stringify(format)}: table or json`)
  }
  const [head = '', ...lines] = psOutput(options.length > 0 ? options : ['-ef']).split('\n')
  const column = head
    .split(/\s+/)
    .filter((word) => word !== '')
    .indexOf('PID')
  if (column < 0) throw new Fault('INVALID_ARGUMENT', 'the options of ps give no column PID')
  const wanted = new Set(pids)
  const ours = lines.filter((line) => wanted.has(Number(line.trim().split(/\s+/)[column])))
  return `${[head, ...ours].join('\n')}\n`
}

function psOutput(options: readonly string[]): string {
  try {
    return execFileSync('ps', options, { encoding: 'utf8', maxBuffer: PS_BYTES_MAX })
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error
    const text = 'ps with a table needs the program ps of the host (package procps)'
    throw new Fault('FAILED_PRECONDITION', text, { cause: error })
  }
}
