import { Fault } from '../../base/fault.ts'

/** `--creds`: podman's `user:password`. The message never repeats it. */
export function parseCredentials(text: string): {
  kind: 'basic'
  username: string
  password: string
} {
  const colon = text.indexOf(':')
  if (colon <= 0 || colon === text.length - 1) {
    throw new Fault('INVALID_ARGUMENT', 'it must be USER:PASSWORD')
  }
  return { kind: 'basic', username: text.slice(0, colon), password: text.slice(colon + 1) }
}
