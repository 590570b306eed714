import { setTimeout as delay } from 'node:timers/promises'
import { Fault } from '../base/fault.ts'

const PAUSE_MS_MAX = 50

/** Asks again, ever less often, until it is gone; DEADLINE_EXCEEDED with the sentence after the time. */
export async function eventuallyGone(
  isGone: () => boolean,
  withinMs: number,
  sentence: string,
): Promise<void> {
  const until = performance.now() + withinMs
  for (let pauseMs = 1; !isGone(); pauseMs = Math.min(pauseMs * 2, PAUSE_MS_MAX)) {
    if (performance.now() > until) throw new Fault('DEADLINE_EXCEEDED', sentence)
    await delay(pauseMs)
  }
}

/** Whether the promise settles in time; 0 or less does not wait. */
export async function within(promise: Promise<unknown>, ms: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined
  const timeout = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), Math.min(Math.max(ms, 0), 2 ** 31 - 1))
  })
  try {
    return await Promise.race([promise.then(() => true), timeout])
  } finally {
    clearTimeout(timer)
  }
}
