/** Memory of a runtime and of its pods' processes, by PSS: what several processes share counts to each in part. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import type { StartedPod } from './cri-subject.ts'

interface Process {
  readonly pid: number
  readonly parent: number
  readonly line: string
}

export interface Memory {
  /** Of all processes that exist for the containers. */
  readonly bytes: number
  /** Without the containers' own program: what the runtime takes. */
  readonly ownBytes: number
}

/** Of each pod, of all processes that exist for it: those whose command line names one or its container, such as a shim, and their descendants. */
export function memoryOf(
  socket: string,
  pods: readonly StartedPod[],
  program: readonly string[],
): Memory {
  const daemon = ownerOf(socket)
  const names = pods.flatMap(({ podId, containerId }) => [podId, containerId])
  const { bytes, ownBytes } = memoryOfAll(names, pods.length, program, daemon)
  return { bytes: bytes / pods.length, ownBytes: ownBytes / pods.length }
}

export function daemonBytes(socket: string): number {
  return pssBytes(ownerOf(socket))
}

/** Of all processes whose command line names one of these, and their descendants; at least so many there are, each with the program. */
export function memoryOfAll(
  names: readonly string[],
  least: number,
  program: readonly string[],
  except?: number,
): Memory {
  const processes = allProcesses()
  const named = ({ pid, line }: Process) =>
    pid !== except && names.some((name) => line.includes(name))
  const found = new Set(processes.filter(named).map(({ pid }) => pid))
  for (let before = -1; before !== found.size; ) {
    before = found.size
    for (const { pid, parent } of processes) if (found.has(parent)) found.add(pid)
  }
  const line = `${program.join('\0')}\0`
  const programs = new Set(processes.filter((one) => one.line === line).map(({ pid }) => pid))
  const sum = (all: readonly number[]) => all.reduce((bytes, pid) => bytes + pssBytes(pid), 0)
  const isProgram = (pid: number) => programs.has(pid)
  // One without a process of its own would be counted as nothing: its program alone is one.
  const running = [...found].filter(isProgram)
  if (running.length < least) throw new Error(`only ${running.length} programs of ${least}`)
  const ownBytes = sum([...found].filter((pid) => !isProgram(pid)))
  return { bytes: ownBytes + sum(running), ownBytes }
}

function allProcesses(): Process[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      try {
        const line = readFileSync(`/proc/${name}/cmdline`, 'utf8')
        const parent = /^PPid:\s+(\d+)$/m.exec(readFileSync(`/proc/${name}/status`, 'utf8'))?.[1]
        return [{ pid: Number(name), parent: Number(parent), line }]
      } catch {
        // It has ended in this moment.
        return []
      }
    })
}

/** Who listens on the socket. */
export function ownerOf(socket: string): number {
  const lines = readFileSync('/proc/net/unix', 'utf8').split('\n')
  const inodes = lines
    .filter((line) => line.endsWith(` ${socket}`))
    .map((line) => line.trim().split(/\s+/)[6])
  const links = new Set(inodes.map((inode) => `socket:[${inode}]`))
  for (const { pid } of allProcesses()) {
    if (descriptors(pid).some((link) => links.has(link))) return pid
  }
  throw new Error(`nobody listens on ${socket}`)
}

function descriptors(pid: number): string[] {
  const directory = `/proc/${pid}/fd`
  try {
    return readdirSync(directory).map((fd) => linkOf(join(directory, fd)))
  } catch {
    return []
  }
}

/** A busy daemon closes one or the other while its descriptors are looked at. */
function linkOf(path: string): string {
  try {
    return readlinkSync(path)
  } catch {
    return ''
  }
}

function pssBytes(pid: number): number {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8')
  return Number(/^Pss:\s+(\d+) kB$/m.exec(text)?.[1] ?? 0) * 1024
}

/** USER_HZ is 100 on every Linux that Node runs on. */
export function cpuSecondsOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
  return (Number(fields[11]) + Number(fields[12])) / 100
}

/** Of its living threads, more exactly. */
export function cpuMsOf(pid: number): number {
  const threads = `/proc/${pid}/task`
  return readdirSync(threads).reduce((sum, thread) => {
    try {
      const ns = readFileSync(join(threads, thread, 'schedstat'), 'utf8').split(' ')[0]
      return sum + Number(ns) / 1e6
    } catch {
      // It has ended in this moment.
      return sum
    }
  }, 0)
}
