import { setTimeout as delay } from 'node:timers/promises'
import { describe } from '../../src/base/fault.ts'

/**
 * Asks again until the probe gives something other than undefined or false, and returns it. A probe that throws has not
 * succeeded yet; its last error is part of the failure.
 */
export async function eventually<T>(
  what: string,
  probe: () => T | Promise<T>,
  options: { withinMs?: number; everyMs?: number } = {},
): Promise<Exclude<T, undefined | false>> {
  const withinMs = options.withinMs ?? 10_000
  const end = performance.now() + withinMs
  for (;;) {
    let reason = ''
    try {
      const result = await probe()
      if (result !== undefined && result !== false) return result as Exclude<T, undefined | false>
    } catch (error) {
      reason = `: ${describe(error)}`
    }
    if (performance.now() > end) throw new Error(`not within ${withinMs} ms: ${what}${reason}`)
    await delay(options.everyMs ?? 10)
  }
}
