import { closeSync, constants, openSync, writeSync } from 'node:fs'
import { isErrno } from '../base/fault.ts'

/** False where there is no such file, or the group goes away in this moment. */
export function writeIfAny(file: string, value: string): boolean {
  try {
    writeFileOnce(file, value)
    return true
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENODEV')) return false
    throw error
  }
}

/** Kernel files take a value in one write(2), and none of O_CREAT and O_TRUNC. */
export function writeFileOnce(file: string, value: string): void {
  const fd = openSync(file, constants.O_WRONLY)
  try {
    // An empty value still has to be a write.
    writeSync(fd, value === '' ? '\n' : value)
  } finally {
    closeSync(fd)
  }
}
