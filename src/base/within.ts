import { Fault } from './fault.ts'

/** The promise's outcome, or DEADLINE_EXCEEDED after `ms`. What it waits for goes on. */
export async function within<T>(ms: number, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new Fault('DEADLINE_EXCEEDED', `no answer within ${ms} ms`)),
      ms,
    )
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}
