import { opendirSync, readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs'
import { isErrno } from '../base/fault.ts'

/** Processes of a container that are looked at for one answer: what is in a container must not keep the daemon busy. */
const PROCESSES_MAX = 1024
/** Open files of a container that are looked at for one answer. */
const DESCRIPTORS_MAX = 16_384
const KIB = 1024n

/** What processes use by their own word in /proc, for a host without the controllers. Of more processes than are looked at, sums are at least so much. */
export interface ProcessUsage {
  threads: bigint
  /** Pages that processes share count for each, here and below. */
  anonBytes: bigint
  /** Pages of files and of shared memory. */
  fileBytes: bigint
  swapBytes: bigint
  pageTableBytes: bigint
  /** Of the processes and of the ended ones that they have waited for. */
  pageFaults: bigint
  majorPageFaults: bigint
}

/** One look at each process. One that ends meanwhile counts for what was read of it. */
export function processUsage(pids: readonly number[]): ProcessUsage {
  const usage: ProcessUsage = {
    threads: 0n,
    anonBytes: 0n,
    fileBytes: 0n,
    swapBytes: 0n,
    pageTableBytes: 0n,
    pageFaults: 0n,
    majorPageFaults: 0n,
  }
  for (const pid of pids.slice(0, PROCESSES_MAX)) {
    unlessEnded(() => {
      addStatus(usage, readFileSync(`/proc/${pid}/status`, 'latin1'))
      addFaults(usage, readFileSync(`/proc/${pid}/stat`, 'latin1'))
    })
  }
  return usage
}

function unlessEnded(read: () => void): void {
  try {
    read()
  } catch (error) {
    if (!isErrno(error, 'ENOENT', 'ESRCH')) throw error
  }
}

const STATUS_LINE = /^(Threads|RssAnon|RssFile|RssShmem|VmSwap|VmPTE):\s+(\d{1,19})/gm

/** A kernel thread and a process that nobody has waited for have no memory, and no lines of it. */
export function addStatus(usage: ProcessUsage, text: string): void {
  for (const [, key, digits = '0'] of text.matchAll(STATUS_LINE)) {
    const number = BigInt(digits)
    if (key === 'Threads') usage.threads += number
    else if (key === 'RssAnon') usage.anonBytes += number * KIB
    else if (key === 'VmSwap') usage.swapBytes += number * KIB
    else if (key === 'VmPTE') usage.pageTableBytes += number * KIB
    else usage.fileBytes += number * KIB
  }
}

/** Fields 10 to 13 of proc_pid_stat(5); the name may hold anything, so they are counted from the last parenthesis. */
export function addFaults(usage: ProcessUsage, text: string): void {
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  const of = (n: number): bigint => BigInt(fields[n - 3] ?? 0)
  const major = of(12) + of(13)
  usage.majorPageFaults += major
  usage.pageFaults += of(10) + of(11) + major
}

export interface OpenFiles {
  descriptors: bigint
  sockets: bigint
}

/** Open files of all the processes; of more than are looked at, at least so many. */
export function openFiles(pids: readonly number[]): OpenFiles {
  const files: OpenFiles = { descriptors: 0n, sockets: 0n }
  let budget = DESCRIPTORS_MAX
  for (const pid of pids.slice(0, PROCESSES_MAX)) {
    const directory = `/proc/${pid}/fd`
    unlessEnded(() => {
      const { size, names } = namesOf(directory, budget)
      files.descriptors += BigInt(size)
      budget -= names.length
      for (const name of names) {
        unlessEnded(() => {
          if (readlinkSync(`${directory}/${name}`).startsWith('socket:')) files.sockets++
        })
      }
    })
  }
  return files
}

/** How many entries a directory of open files has, and the names of the first ones. */
function namesOf(directory: string, max: number): { size: number; names: string[] } {
  // The size is the number of open files since Linux 6.2, and 0 before.
  const { size } = statSync(directory)
  if (size > 0 && size <= max) {
    const names = readdirSync(directory)
    return { size: names.length, names }
  }
  const names: string[] = []
  const open = opendirSync(directory)
  try {
    while (names.length < max) {
      const entry = open.readSync()
      if (entry === null) break
      names.push(entry.name)
    }
  } finally {
    open.closeSync()
  }
  return { size: Math.max(size, names.length), names }
}

/** The soft limit of open files of a process; undefined for no limit and where the process has ended. */
export function openFilesLimit(pid: number): bigint | undefined {
  let limit: bigint | undefined
  unlessEnded(() => {
    const text = readFileSync(`/proc/${pid}/limits`, 'latin1')
    const [, soft] = /^Max open files\s+(\d{1,20})\s/m.exec(text) ?? []
    limit = soft === undefined ? undefined : BigInt(soft)
  })
  return limit
}
