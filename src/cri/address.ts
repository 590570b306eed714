import { isIP } from 'node:net'
import { join } from 'node:path'
import { Fault } from '../base/fault.ts'

/** unix(7): sun_path holds 108 bytes with the NUL at its end. */
export const SOCKET_PATH_BYTES_MAX = 107

/** Where a server listens: a TCP port of an IP address, or a unix socket's path. */
export type Address = { readonly host: string; readonly port: number } | { readonly path: string }

/** `127.0.0.1:9090`, `[::1]:9090`, `unix:/run/x.sock`. A name is refused: what it means may change under a running daemon. */
export function parseAddress(text: string): Address {
  if (text.startsWith('unix:')) return { path: checkSocketPath(text.slice('unix:'.length)) }
  const [, bracketed, plain, digits = ''] = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text) ?? []
  const host = bracketed ?? plain ?? ''
  const port = Number(digits)
  const isFamilyRight = isIP(host) === (bracketed === undefined ? 4 : 6)
  if (!isFamilyRight || port < 1 || port > 65_535) {
    throw new Fault(
      'INVALID_ARGUMENT',
      'an address reads 127.0.0.1:9090, [::1]:9090 or unix:/path (an IP address, no name)',
    )
  }
  return { host, port }
}

/** An absolute path that a socket can be bound to. */
export function checkSocketPath(path: string): string {
  if (!path.startsWith('/') || path.includes('\0')) {
    throw new Fault('INVALID_ARGUMENT', 'it must be an absolute path')
  }
  if (Buffer.byteLength(path) > SOCKET_PATH_BYTES_MAX) {
    throw new Fault(
      'INVALID_ARGUMENT',
      `a socket's path has at most ${SOCKET_PATH_BYTES_MAX} bytes`,
    )
  }
  return path
}

/** Where a daemon answers `berth debug`. */
export function debugSocket(state: string): string {
  return join(state, 'debug.sock')
}
