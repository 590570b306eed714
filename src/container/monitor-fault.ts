import { constants } from 'node:os'
import { Fault, type FaultCode } from '../base/fault.ts'

const { errno } = constants

/** What a caller can do about a system call's failure. All others are INTERNAL. */
const CODES = new Map<number, FaultCode>([
  [errno.ENOENT, 'NOT_FOUND'],
  [errno.ENOTDIR, 'NOT_FOUND'],
  [errno.EEXIST, 'ALREADY_EXISTS'],
  [errno.EACCES, 'PERMISSION_DENIED'],
  [errno.EPERM, 'PERMISSION_DENIED'],
  [errno.EBUSY, 'FAILED_PRECONDITION'],
  [errno.ESRCH, 'FAILED_PRECONDITION'],
  [errno.ENOSPC, 'RESOURCE_EXHAUSTED'],
  [errno.EAGAIN, 'RESOURCE_EXHAUSTED'],
  [errno.ENOMEM, 'RESOURCE_EXHAUSTED'],
  [errno.EMFILE, 'RESOURCE_EXHAUSTED'],
  [errno.EINVAL, 'INVALID_ARGUMENT'],
  [errno.EBADMSG, 'INVALID_ARGUMENT'],
  [errno.ETIMEDOUT, 'DEADLINE_EXCEEDED'],
  [errno.ENOSYS, 'UNIMPLEMENTED'],
  [errno.EOPNOTSUPP, 'UNIMPLEMENTED'],
])

/** The exit codes of a shell for a program that is not there, or cannot be executed. */
const NO_PROGRAM = 127
const NO_EXEC = 126

/** A monitor's refusal; `stage` is what failed inside (docs/native.md). */
export class MonitorFault extends Fault {
  readonly stage: string

  constructor(code: FaultCode, stage: string, message: string, exit?: number) {
    super(code, message, exit === undefined ? {} : { exit })
    this.stage = stage
  }
}

/** A refused request as a Fault: what could not be done, at which stage, and why. */
export function replyFault(what: string, reply: Record<string, unknown>): Fault {
  const stage = String(reply['stage'] ?? 'request')
  const number = Number(reply['errno'] ?? 0)
  const text = String(reply['text'] ?? 'no reason given')
  const message = `cannot ${what}: ${text.includes(stage) ? text : `${stage}: ${text}`}`
  const code = CODES.get(number) ?? 'INTERNAL'
  if (stage !== 'exec') return new MonitorFault(code, stage, message)
  const missing = number === errno.ENOENT || number === errno.ENOTDIR
  return new MonitorFault(code, stage, message, missing ? NO_PROGRAM : NO_EXEC)
}
