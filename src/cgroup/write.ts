import { constants } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Fault, isErrno } from '../base/fault.ts'
import { readFileIfAny } from '../base/file.ts'
import { writeIfAny } from './file.ts'
import { words } from './host.ts'
import type { LimitWrite } from './limits.ts'

/** Does one write of a limit. Errors name the option: INVALID_ARGUMENT for a value that the kernel refuses, FAILED_PRECONDITION for a missing file. */
export async function writeLimit(directory: string, write: LimitWrite): Promise<void> {
  const { option, instead } = write
  try {
    if (await writeOff(join(directory, write.file), write.value)) return
    if (instead && (await writeOff(join(directory, instead.file), instead.value))) return
  } catch (error) {
    // ENODEV, ENXIO: io.max of a device that is not there.
    if (isErrno(error, 'EINVAL', 'ERANGE', 'ENODEV', 'ENXIO', 'EOPNOTSUPP')) {
      throw new Fault(
        'INVALID_ARGUMENT',
        `resources.${option}: the kernel refuses "${write.value}" for ${write.file}`,
        { cause: error },
      )
    }
    throw new Fault('INTERNAL', `resources.${option}: cannot write ${write.file}`, { cause: error })
  }
  if (write.fileOptional || write.kind === 'share') return
  throw new Fault(
    'FAILED_PRECONDITION',
    `resources.${option} cannot be enforced: this kernel has no ${write.file}`,
  )
}

/** Off the main thread: lowering memory.max makes the writer reclaim the memory itself, which can take seconds. */
async function writeOff(file: string, value: string): Promise<boolean> {
  if (!file.endsWith('/memory.max') && !file.endsWith('/memory.high')) {
    return writeIfAny(file, value)
  }
  try {
    await writeFile(file, value, { flag: constants.O_WRONLY })
    return true
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return false
    throw error
  }
}

/** The write that brings back what a file holds now. */
export function readRestore(directory: string, write: LimitWrite): LimitWrite | undefined {
  const { controller, option, kind, instead } = write
  for (const { file, value } of instead ? [write, instead] : [write]) {
    const now = readFileIfAny(join(directory, file))
    if (now === undefined) continue
    return { controller, option, kind, file, value: restoreValue(now, value) }
  }
  return undefined
}

/**
 * What to write to undo `written` in a file that holds `now`. Files keyed by device show one line for each; a device without a line is at its default.
 */
export function restoreValue(now: string, written: string): string {
  const lines = now.split('\n').filter((line) => line !== '')
  const [key = '', ...settings] = words(written)
  const isKeyed = settings.length > 0 && (key.includes(':') || settings[0]?.includes('='))
  if (!isKeyed) return lines.find((line) => line.startsWith('default ')) ?? lines[0] ?? ''
  const line = lines.find((candidate) => candidate.startsWith(`${key} `))
  if (line !== undefined) return line
  return [
    key,
    ...settings.map((s) => (s.includes('=') ? `${s.split('=')[0]}=max` : 'default')),
  ].join(' ')
}
