/** The codes a caller can act on, with the gRPC status and the exit code of each. */
const FAULTS = {
  INVALID_ARGUMENT: { grpc: 3, exit: 125 },
  DEADLINE_EXCEEDED: { grpc: 4, exit: 125 },
  NOT_FOUND: { grpc: 5, exit: 125 },
  ALREADY_EXISTS: { grpc: 6, exit: 125 },
  PERMISSION_DENIED: { grpc: 7, exit: 125 },
  RESOURCE_EXHAUSTED: { grpc: 8, exit: 125 },
  FAILED_PRECONDITION: { grpc: 9, exit: 125 },
  UNIMPLEMENTED: { grpc: 12, exit: 125 },
  INTERNAL: { grpc: 13, exit: 125 },
  UNAVAILABLE: { grpc: 14, exit: 125 },
  DATA_LOSS: { grpc: 15, exit: 125 },
  UNAUTHENTICATED: { grpc: 16, exit: 125 },
} as const

export type FaultCode = keyof typeof FAULTS

/**
 * The one error type of berth. The message names the subject and the reason, starts in lower case
 * and has no full stop: `cannot start container a1b2: it is running`.
 */
export class Fault extends Error {
  override readonly name = 'Fault'
  readonly code: FaultCode
  /** Overrides the exit code of the table: 126 and 127 for a command that cannot be run. */
  readonly exit: number | undefined

  constructor(code: FaultCode, message: string, options: { cause?: unknown; exit?: number } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.exit = options.exit
  }
}

/** The gRPC status number of any error: INTERNAL for what is not a Fault. */
export function grpcCode(error: unknown): number {
  return FAULTS[error instanceof Fault ? error.code : 'INTERNAL'].grpc
}

/** The exit code of any error. 125 says that berth failed, not the container's program (docker's convention). */
export function exitCode(error: unknown): number {
  if (!(error instanceof Fault)) return FAULTS.INTERNAL.exit
  return error.exit ?? FAULTS[error.code].exit
}

/** An error's message followed by those of its causes, each said once. */
export function describe(error: unknown): string {
  const parts: string[] = []
  for (let e: unknown = error; e !== undefined && parts.length < 8; ) {
    const text = e instanceof Error ? e.message : String(e)
    if (!parts.some((part) => part.includes(text))) parts.push(text)
    e = e instanceof Error ? e.cause : undefined
  }
  return parts.join(': ')
}

/** Text of others, such as names out of an image, that cannot move a terminal's cursor: control characters but line ends and tabs as \\xNN. */
export function harmless(text: string): string {
  return text.replace(
    /(?![\n\t])\p{Cc}/gu,
    (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`,
  )
}

/** Whether the error is a failed system call with this errno name, as Node and the addon report it. */
export function isErrno(error: unknown, ...codes: readonly string[]): boolean {
  if (!(error instanceof Error) || !('code' in error)) return false
  // One number on Linux, of which Node and strerrorname_np(3) have each another name.
  const code = error.code === 'ENOTSUP' ? 'EOPNOTSUPP' : error.code
  return typeof code === 'string' && codes.includes(code)
}
