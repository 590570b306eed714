/** Memory of a runtime and of its pods' processes, by PSS: what several processes share counts to each in part. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import type { StartedPod } from './cri-subject.ts'

interface Process {
  readonly pid: number
  readonly parent: number
  readonly line: string
}

/** Of all processes that exist for the pods: those whose command line names one or its container, such as a shim, and their descendants. */
export function memoryOf(
  socket: string,
  pods: readonly StartedPod[],
): { daemonBytes: number; podBytes: number } {
  const daemon = ownerOf(socket, allProcesses())
  const names = pods.flatMap(({ podId, containerId }) => [podId, containerId])
  const all = bytesOf(names, pods.length, daemon)
  return { daemonBytes: pssBytes(daemon), podBytes: all / pods.length }
}

/** Of all processes whose command line names one of these, and their descendants; at least so many there are. */
export function bytesOf(names: readonly string[], least: number, except?: number): number {
  const processes = allProcesses()
  const found = new Set(
    processes
      .filter(({ pid, line }) => pid !== except && names.some((name) => line.includes(name)))
      .map(({ pid }) => pid),
  )
  for (let before = -1; before !== found.size; ) {
    before = found.size
    for (const { pid, parent } of processes) if (found.has(parent)) found.add(pid)
  }
  // One without a process of its own would be counted as nothing: its sleep alone is one.
  if (found.size < least) throw new Error(`only ${found.size} processes of ${least}`)
  return [...found].reduce((sum, pid) => sum + pssBytes(pid), 0)
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
function ownerOf(socket: string, processes: readonly Process[]): number {
  const lines = readFileSync('/proc/net/unix', 'utf8').split('\n')
  const inodes = lines
    .filter((line) => line.endsWith(` ${socket}`))
    .map((line) => line.trim().split(/\s+/)[6])
  const links = new Set(inodes.map((inode) => `socket:[${inode}]`))
  for (const { pid } of processes) {
    if (descriptors(pid).some((link) => links.has(link))) return pid
  }
  throw new Error(`nobody listens on ${socket}`)
}

function descriptors(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/fd`).map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`))
  } catch {
    return []
  }
}

function pssBytes(pid: number): number {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8')
  return Number(/^Pss:\s+(\d+) kB$/m.exec(text)?.[1] ?? 0) * 1024
}
