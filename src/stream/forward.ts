import type { Duplex } from 'node:stream'
import { Fault } from '../base/fault.ts'
import type { Inbox } from './inbox.ts'
import { HALF_CLOSED_MS } from './limits.ts'

/** The client's end of one forwarded connection. */
export interface ForwardChannel {
  readonly input: Inbox
  write(data: Uint8Array): Promise<void>
  end(): void
}

/**
 * Carries bytes both ways until both have ended, each for itself: a program that closes its half still gets its answer. Throws what broke the connection to
 * the port before its answer was complete; a client that goes is a signal, and no error.
 */
export async function forward(
  channel: ForwardChannel,
  target: Duplex,
  gone: AbortSignal,
): Promise<void> {
  let broken: Error | undefined
  let halfClosed: NodeJS.Timeout | undefined
  let isTooLong = false
  const drop = (): void => {
    target.destroy()
  }
  target.on('error', (error) => {
    broken ??= error
  })
  // There is nobody to write to any more.
  target.on('close', () => channel.input.discard())
  gone.addEventListener('abort', drop)
  if (gone.aborted) drop()
  // Neither a client whose program has gone can say more than "no more input", nor a port that is closed: one end must not keep the other for ever.
  const halfClose = (): void => {
    halfClosed ??= setTimeout(() => {
      isTooLong = true
      drop()
    }, HALF_CLOSED_MS)
  }

  const up = async (): Promise<void> => {
    for await (const data of channel.input) {
      if (!target.write(data)) await drained(target)
      halfClosed?.refresh()
    }
    if (target.destroyed) return
    target.end()
    halfClose()
  }
  const down = async (): Promise<void> => {
    try {
      // The iterator's own end would destroy the half that we still write to.
      for await (const data of target.iterator({ destroyOnReturn: false })) {
        await channel.write(data as Buffer)
        halfClosed?.refresh()
      }
    } catch (error) {
      drop()
      if (!isTooLong) throw broken ?? error
    }
    channel.end()
    if (!target.destroyed) halfClose()
  }
  try {
    // An input that cannot be delivered matters only through what it does to the answer.
    const upwards = up().catch(drop)
    await down()
    await upwards
  } catch (error) {
    if (!gone.aborted) throw error
  } finally {
    clearTimeout(halfClosed)
    gone.removeEventListener('abort', drop)
    target.destroy()
  }
}

function drained(target: Duplex): Promise<void> {
  return new Promise((resolve, reject) => {
    const done = (): void => {
      target.off('drain', done)
      target.off('close', done)
      if (target.destroyed) reject(new Fault('UNAVAILABLE', 'the port has closed the connection'))
      else resolve()
    }
    target.on('drain', done)
    target.on('close', done)
    if (target.destroyed) done()
  })
}
