import type { Duplex } from 'node:stream'

/** What of a process's stdio the client asks for. With a terminal there is no stderr: the terminal carries both. */
export interface Stdio {
  readonly stdin: boolean
  readonly stdout: boolean
  readonly stderr: boolean
  readonly terminal: boolean
}

export interface ExecRequest extends Stdio {
  readonly kind: 'exec'
  /** Of which container. */
  readonly target: string
  readonly command: readonly string[]
}

export interface AttachRequest extends Stdio {
  readonly kind: 'attach'
  /** To which container. */
  readonly target: string
}

export interface ForwardRequest {
  readonly kind: 'portforward'
  /** Into which pod. */
  readonly target: string
  /** What a client that speaks channels over a WebSocket gets; over SPDY it names the port of each connection. */
  readonly ports: readonly number[]
}

export type StreamRequest = ExecRequest | AttachRequest | ForwardRequest

/** The server's end of a process's stdio; the engine's sessions fit. */
export interface Session {
  /** Ends with the process or at close(). It is read no faster than the client reads. */
  readonly output: AsyncIterable<{ readonly stream: 'stdout' | 'stderr'; readonly data: Buffer }>
  /** Resolves when the bytes are taken; rejects when the process or its stdin is gone. */
  write(data: Uint8Array): Promise<void>
  /** End of file for the process's stdin; output goes on. */
  closeInput(): void
  resize(rows: number, columns: number): void
  /** The end of the process; 128+n for signal n. */
  readonly exit: Promise<{ readonly code: number }>
  /** The client has left, or all is said: `output` ends. Called once or more; never throws. */
  close(): void
}

/**
 * What stands behind the URLs. A handler that throws has its message told to the client. The signal is aborted when the client leaves; a session or
 * connection that is opened nevertheless is closed at once.
 */
export interface Handlers {
  exec(request: ExecRequest, signal: AbortSignal): Promise<Session>
  attach(request: AttachRequest, signal: AbortSignal): Promise<Session>
  /** A connection to the port, inside the pod. Called once for each connection of the client. */
  portForward(request: ForwardRequest, port: number, signal: AbortSignal): Promise<Duplex>
}
