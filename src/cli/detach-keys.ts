import { Fault } from '../base/fault.ts'

/** docker's: control and p, then control and q. */
export const DETACH_KEYS = 'ctrl-p,ctrl-q'

/** The bytes of a key sequence such as `ctrl-p,ctrl-q` or `ctrl-x,d`; an empty text is no sequence. */
export function parseDetachKeys(text: string): number[] {
  if (text === '') return []
  return text.split(',').map((key) => {
    if (/^[\x20-\x7e]$/.test(key)) return key.charCodeAt(0)
    const control = /^ctrl-([a-z@[\\\]^_])$/i.exec(key)?.[1]
    if (control !== undefined) return control.toUpperCase().charCodeAt(0) & 0x1f
    throw new Fault(
      'INVALID_ARGUMENT',
      `"${text}" are no keys: letters and ctrl-LETTER between commas, such as ${DETACH_KEYS}`,
    )
  })
}

/**
 * Looks for the sequence in what is typed. Its beginning is held back until it is clear whether the rest follows,
 * so that the program never sees a part of it.
 */
export class DetachFilter {
  readonly #keys: readonly number[]
  #matched = 0

  constructor(keys: readonly number[]) {
    this.#keys = keys
  }

  /** What the program may have of this input, and whether the sequence is complete (what comes after it is dropped). */
  feed(input: Uint8Array): { pass: Buffer; detached: boolean } {
    if (this.#keys.length === 0) return { pass: Buffer.from(input), detached: false }
    const pass: number[] = []
    for (const byte of input) {
      while (this.#matched > 0 && byte !== this.#keys[this.#matched]) {
        // The held start was none; it may still end in a shorter start.
        const held = this.#keys.slice(0, this.#matched)
        let shorter = this.#matched - 1
        while (shorter > 0 && !startsWith(held.slice(-shorter), this.#keys)) shorter--
        pass.push(...held.slice(0, this.#matched - shorter))
        this.#matched = shorter
      }
      if (byte !== this.#keys[this.#matched]) pass.push(byte)
      else if (++this.#matched === this.#keys.length) {
        this.#matched = 0
        return { pass: Buffer.from(pass), detached: true }
      }
    }
    return { pass: Buffer.from(pass), detached: false }
  }
}

function startsWith(part: readonly number[], whole: readonly number[]): boolean {
  return part.every((byte, i) => byte === whole[i])
}
