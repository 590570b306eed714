import { Fault } from '../base/fault.ts'

/** What `$name` stands for. */
export type Lookup = (name: string) => string | undefined

type Escape = '\\' | '`'

/** Splits at white space outside quotes; the words keep their quotes and escapes. */
export function splitWords(text: string, escaper: Escape): string[] {
  const words: string[] = []
  let word = ''
  let quote = ''
  for (let i = 0; i < text.length; i++) {
    const c = text[i] ?? ''
    if (c === escaper && quote !== "'" && i + 1 < text.length) {
      word += c + text[++i]
    } else if (quote !== '') {
      if (c === quote) quote = ''
      word += c
    } else if (/\s/.test(c)) {
      if (word !== '') words.push(word)
      word = ''
    } else {
      if (c === '"' || c === "'") quote = c
      word += c
    }
  }
  if (word !== '') words.push(word)
  return words
}

/** One word as docker reads it: quotes and escapes taken off, variables replaced. Nothing is split again. */
export function expandWord(text: string, lookup: Lookup, escaper: Escape): string {
  return new Expander(text, lookup, escaper).run()
}

class Expander {
  readonly #text: string
  readonly #lookup: Lookup
  readonly #escaper: Escape
  #at = 0

  constructor(text: string, lookup: Lookup, escaper: Escape) {
    this.#text = text
    this.#lookup = lookup
    this.#escaper = escaper
  }

  run(): string {
    return this.#until('')
  }

  /** All up to a character outside quotes, which is left where it is. */
  #until(end: string): string {
    let out = ''
    while (this.#at < this.#text.length) {
      const c = this.#text[this.#at] ?? ''
      if (c === end) return out
      if (c === "'") out += this.#single()
      else if (c === '"') out += this.#double()
      else if (c === '$') out += this.#variable()
      else if (c === this.#escaper) {
        // At the very end it stands for nothing.
        out += this.#text[this.#at + 1] ?? ''
        this.#at += 2
      } else {
        out += c
        this.#at++
      }
    }
    if (end !== '') throw this.#bad(`a "${end}" is missing`)
    return out
  }

  #single(): string {
    const close = this.#text.indexOf("'", this.#at + 1)
    if (close < 0) throw this.#bad('a quote is not closed')
    const out = this.#text.slice(this.#at + 1, close)
    this.#at = close + 1
    return out
  }

  #double(): string {
    let out = ''
    for (this.#at++; this.#at < this.#text.length; ) {
      const c = this.#text[this.#at] ?? ''
      const next = this.#text[this.#at + 1] ?? ''
      if (c === '"') {
        this.#at++
        return out
      }
      if (c === '$') out += this.#variable()
      else if (c === this.#escaper && ['"', '$', this.#escaper].includes(next)) {
        out += next
        this.#at += 2
      } else {
        out += c
        this.#at++
      }
    }
    throw this.#bad('a quote is not closed')
  }

  #variable(): string {
    const rest = this.#text.slice(this.#at)
    const plain = /^\$([A-Za-z_][A-Za-z0-9_]*|[0-9@*#?!$-])/.exec(rest)
    if (plain) {
      this.#at += plain[0].length
      return this.#lookup(plain[1] ?? '') ?? ''
    }
    if (!rest.startsWith('${')) {
      this.#at++
      return '$'
    }
    const head = /^\$\{([A-Za-z_][A-Za-z0-9_]*)(\}|:?[-+?])/.exec(rest)
    if (!head) {
      const further = /^\$\{[A-Za-z_][A-Za-z0-9_]*(##?|%%?|\/\/?)/.exec(rest)
      if (further) {
        throw new Fault(
          'UNIMPLEMENTED',
          `\${…${further[1]}…} is not supported by berth: ${this.#text}`,
        )
      }
      throw this.#bad('a variable in it has no valid name')
    }
    this.#at += head[0].length
    const value = this.#lookup(head[1] ?? '')
    const operator = head[2] ?? ''
    if (operator === '}') return value ?? ''
    const word = this.#until('}')
    this.#at++
    const isSet = value !== undefined && !(operator.startsWith(':') && value === '')
    if (operator.endsWith('+')) return isSet ? word : ''
    if (isSet) return value
    if (operator.endsWith('-')) return word
    throw new Fault('INVALID_ARGUMENT', `${head[1]}: ${word || 'it is not set'}`)
  }

  #bad(reason: string): Fault {
    return new Fault('INVALID_ARGUMENT', `"${this.#text}" cannot be read: ${reason}`)
  }
}

/** The pairs of ENV, LABEL and ARG's kin: `a=1 b="2 3"`, or with one pair alone `a 1 and all the rest`. Not yet expanded. */
export function splitPairs(text: string, escaper: Escape): [name: string, value: string][] {
  const words = splitWords(text, escaper)
  const [first = ''] = words
  if (!first.includes('=')) {
    const match = /^(\S+)\s+(.*)$/s.exec(text)
    if (!match) throw new Fault('INVALID_ARGUMENT', `"${text}" has no value`)
    return [[match[1] ?? '', match[2] ?? '']]
  }
  return words.map((word) => {
    const at = word.indexOf('=')
    if (at < 1) throw new Fault('INVALID_ARGUMENT', `"${word}" is no name=value`)
    return [word.slice(0, at), word.slice(at + 1)]
  })
}
