/**
 * Names in archives and on Linux file systems are bytes without an encoding. A `ByteName` is a string with one character (U+0000 to U+00FF) a byte:
 * it compares, splits and hashes like a string and loses nothing. Never print one as it is: `printable` does.
 */
export type ByteName = string

export function byteName(bytes: Uint8Array): ByteName {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')
}

export function nameBytes(name: ByteName): Buffer {
  return Buffer.from(name, 'latin1')
}

/** A ByteName of ordinary text. */
export function textName(text: string): ByteName {
  return Buffer.from(text).toString('latin1')
}

const PRINTED_MAX = 200
const decoder = new TextDecoder('utf-8', { fatal: true })

/** A name for an error message: text where it is UTF-8, control characters and other bytes escaped, long ones cut. */
export function printable(name: ByteName): string {
  const cut = name.length > PRINTED_MAX ? `${name.slice(0, PRINTED_MAX)}…` : name
  let text = cut
  try {
    text = decoder.decode(nameBytes(name.slice(0, PRINTED_MAX))) + (cut === name ? '' : '…')
  } catch {
    text = cut.replace(/[\u0080-\u00ff]/g, hex)
  }
  return text.replace(/[\p{Cc}\p{Cf}]/gu, hex)
}

function hex(character: string): string {
  const code = character.codePointAt(0) ?? 0
  return code < 256 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u{${code.toString(16)}}`
}

/** A path cleaned lexically below a root: no empty part, no `.` and no `..`. */
export interface CleanPath {
  readonly parts: readonly ByteName[]
  /** More `..` than parts before them: the name meant something above the root. */
  readonly escapes: boolean
}

/** `/a/./b/../c` → `a`, `c`. What leads above the root is held at it, as containerd does. */
export function cleanPath(path: ByteName): CleanPath {
  const parts: ByteName[] = []
  let escapes = false
  for (const part of path.split('/')) {
    if (part === '' || part === '.') continue
    if (part !== '..') parts.push(part)
    else if (parts.pop() === undefined) escapes = true
  }
  return { parts, escapes }
}
