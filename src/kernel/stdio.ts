/** Rows and columns of stdout's terminal; 0 where it is none. */
export interface TerminalSize {
  readonly rows: number
  readonly columns: number
}

export type Output = 'stdout' | 'stderr'

/** stdin, chunk by chunk; it is read once. */
export interface Input extends AsyncIterable<Buffer> {
  /** Nothing more is wanted: who reads meets an end or an error. */
  close(): void
}

/** stdin, stdout and stderr of who wants a command done: this process's own, or those at the other end of the daemon's socket (front/remote-stdio.ts). */
export interface Stdio {
  isTerminal(of: 'stdin' | Output): boolean
  size(): TerminalSize
  /**
   * Resolves when the reader has the data, or the system for him. Rejects with EPIPE when he has gone; after the signal nobody waits for him, and
   * nothing else can be written there.
   */
  write(to: Output, data: string | Uint8Array, signal?: AbortSignal): Promise<void>
  /** The same with nobody who waits, or is told. */
  put(to: Output, text: string): void
  /** Resolves when all that was written is with its reader, or he has gone. */
  flushed(): Promise<void>
  input(): Input
  /** stdin's terminal is raw, and its output not translated, until the function is called. */
  raw(): () => void
  /** Tells each new size of stdout's terminal until the function is called. */
  onResize(tell: () => void): () => void
}
