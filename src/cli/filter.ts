import { Fault } from '../base/fault.ts'

/** One `--filter KEY=VALUE`. */
export interface Filter {
  readonly key: string
  readonly value: string
}

export function parseFilter(text: string): Filter {
  const at = text.indexOf('=')
  if (at > 0 && at < text.length - 1) {
    return { key: text.slice(0, at).toLowerCase(), value: text.slice(at + 1) }
  }
  throw new Fault('INVALID_ARGUMENT', `"${text}" is no filter: KEY=VALUE`)
}

/** Refuses keys that this list cannot be filtered by. */
export function checkFilters(filters: readonly Filter[], known: readonly string[]): void {
  const unknown = filters.find(({ key }) => !known.includes(key))
  if (!unknown) return
  throw new Fault(
    'UNIMPLEMENTED',
    `option --filter ${unknown.key}=${unknown.value}: known keys are ${known.join(', ')}`,
  )
}
