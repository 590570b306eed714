import { readFileSync } from 'node:fs'
import { Fault, isErrno } from '../base/fault.ts'
import { groupProcesses } from '../cgroup/index.ts'
import { findContainer } from './find.ts'
import type { Engine } from './open.ts'
import { readRunMark } from './status.ts'

/** USER_HZ: the unit of times in /proc/PID/stat, the same on x86_64 and aarch64 (proc(5)). */
const TICKS_PER_SECOND = 100
/** A container's processes that are read for one answer. */
const PROCESSES_MAX = 32768

export interface ProcessRow {
  readonly user: string
  readonly pid: number
  readonly ppid: number
  readonly cpuPercent: number
  readonly started: string
  readonly tty: string
  readonly time: string
  readonly command: string
}

/** Processes of a container by host pid: like ps -ef. */
export async function containerProcesses(engine: Engine, ref: string): Promise<ProcessRow[]> {
  const { record, status } = await findContainer(engine, ref)
  if (status.state !== 'running' && status.state !== 'paused') {
    throw new Fault(
      'FAILED_PRECONDITION',
      `container ${record.name} is not running: it has no processes`,
    )
  }
  const cgroup = readRunMark(engine, record.id)?.cgroup ?? ''
  return groupPids(cgroup).flatMap((pid) => processRow(pid) ?? [])
}

const statFile = (pid: number): string => `/proc/${pid}/stat`

/** Every process in a cgroup and the cgroups below it, ascending. */
export function groupPids(cgroup: string): number[] {
  if (cgroup === '') return []
  const pids = groupProcesses(cgroup).sort((a, b) => a - b)
  return pids.slice(0, PROCESSES_MAX)
}

/** One process's row; undefined when it has ended meanwhile. */
function processRow(pid: number): ProcessRow | undefined {
  try {
    const stat = processStat(pid)
    const uid = /^Uid:\s+([0-9]+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? '?'
    // A process writes its own command line: control characters must not reach a terminal.
    const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').join(' ').trim()
    const command = printable(words === '' ? `[${stat.name}]` : words)
    const uptime = Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0])
    const age = Math.max(uptime - stat.startTicks / TICKS_PER_SECOND, 0.01)
    const seconds = stat.cpuTicks / TICKS_PER_SECOND
    return {
      user: uid,
      pid,
      ppid: stat.ppid,
      cpuPercent: Math.round((seconds / age) * 1000) / 10,
      started: new Date(Date.now() - age * 1000).toISOString(),
      tty: terminalName(stat.tty),
      time: clock(seconds),
      command,
    }
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ESRCH')) return
    throw error
  }
}

/** Fields of /proc/PID/stat; the name may hold anything, so the rest begins after the last parenthesis. */
export function processStat(pid: number): ProcessStat {
  return parseProcessStat(readFileSync(statFile(pid), 'utf8'))
}

export interface ProcessStat {
  readonly name: string
  readonly ppid: number
  readonly tty: number
  readonly cpuTicks: number
  readonly startTicks: number
  readonly rssPages: number
}

function parseProcessStat(text: string): ProcessStat {
  const end = text.lastIndexOf(')')
  const field = text.slice(end + 2).split(' ')
  const at = (n: number): number => Number(field[n - 3])
  return {
    name: text.slice(text.indexOf('(') + 1, end),
    ppid: at(4),
    tty: at(7),
    cpuTicks: at(14) + at(15),
    startTicks: at(22),
    rssPages: at(24),
  }
}

function terminalName(device: number): string {
  const major = (device >> 8) & 0xfff
  const minor = (device & 0xff) | ((device >> 12) & 0xfff00)
  return major >= 136 && major <= 143 ? `pts/${minor + (major - 136) * 256}` : '?'
}

function clock(seconds: number): string {
  const two = (n: number): string => String(Math.floor(n)).padStart(2, '0')
  return `${two(seconds / 3600)}:${two((seconds / 60) % 60)}:${two(seconds % 60)}`
}

export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is taken out
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, '?')
}

const PAGE_BYTES = 4096n

/** What the processes have in memory; pages that they share count for each. */
export function residentBytes(pids: readonly number[]): bigint {
  let total = 0n
  for (const pid of pids) {
    try {
      const stat = processStat(pid)
      total += BigInt(stat.rssPages) * PAGE_BYTES
    } catch (error) {
      if (!isErrno(error, 'ENOENT', 'ESRCH')) throw error
    }
  }
  return total
}
