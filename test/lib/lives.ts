import { readFileSync } from 'node:fs'

/** Whether there is such a process: a zombie, of which init has not yet been told, is none. */
export function lives(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}
