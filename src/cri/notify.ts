/** What systemd is told of the daemon: sd_notify(3), one datagram a message. */
import { setTimeout as wait } from 'node:timers/promises'
import { describe, isErrno } from '../base/fault.ts'
import { binding } from '../kernel/binding.ts'
import type { Log } from './log.ts'

/** Of the words of STATUS=, which systemctl shows. */
const STATUS_LENGTH_MAX = 256
/** systemd is busy: its socket's queue is full. */
const ATTEMPTS_MAX = 20
const ATTEMPT_PAUSE_MS = 50

export interface NotifyEnvironment {
  /** $NOTIFY_SOCKET; undefined where nobody listens. */
  readonly socket: string | undefined
  /** Without a sign of life for so long, systemd ends the daemon; undefined where it does not look. */
  readonly watchdogMs: number | undefined
}

/** Reads the variables of sd_notify(3) and sd_watchdog_enabled(3), and takes them out: plugins and monitors must not speak for the daemon. */
export function takeNotifyEnvironment(
  environment: Record<string, string | undefined>,
  pid: number,
): NotifyEnvironment {
  const { NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID } = environment
  for (const name of ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID']) delete environment[name]
  const isOurs = WATCHDOG_PID === undefined || WATCHDOG_PID === String(pid)
  const microseconds = /^[1-9]\d{0,15}$/.test(WATCHDOG_USEC ?? '') ? Number(WATCHDOG_USEC) : 0
  return {
    socket: NOTIFY_SOCKET === '' ? undefined : NOTIFY_SOCKET,
    watchdogMs: isOurs && microseconds > 0 ? microseconds / 1000 : undefined,
  }
}

export class ServiceManager {
  readonly #socket: string | undefined
  readonly #watchdogMs: number | undefined
  readonly #log: Log
  #watchdog: NodeJS.Timeout | undefined

  constructor(environment: NotifyEnvironment, log: Log) {
    this.#log = log
    this.#watchdogMs = environment.watchdogMs
    this.#socket = environment.socket
    if (this.#socket !== undefined && !/^[/@]/.test(this.#socket)) {
      // vsock: and the like, for a virtual machine's own init.
      log.warn('NOTIFY_SOCKET is no unix socket: the service manager is told nothing', {
        socket: this.#socket,
      })
      this.#socket = undefined
    }
  }

  /** The daemon answers its socket. Also after reloading(). */
  ready(status: string): Promise<void> {
    return this.#tell(`READY=1\nSTATUS=${statusText(status)}`)
  }

  /** A reload begins; systemctl waits for ready(). */
  reloading(): Promise<void> {
    // systemd orders messages by its own clock, CLOCK_MONOTONIC: that of hrtime.
    return this.#tell(`RELOADING=1\nMONOTONIC_USEC=${process.hrtime.bigint() / 1000n}`)
  }

  /** The end begins; no further sign of life is expected. */
  stopping(): Promise<void> {
    this.stopWatchdog()
    return this.#tell('STOPPING=1')
  }

  /** A line for systemctl status. */
  status(text: string): Promise<void> {
    return this.#tell(`STATUS=${statusText(text)}`)
  }

  /**
   * Gives a sign of life at half the time that systemd waits, as long as the event loop turns and `check` succeeds within that half. `check` should go the way
   * that a client goes. Does nothing where systemd does not look.
   */
  startWatchdog(check: () => Promise<unknown>): void {
    if (this.#watchdogMs === undefined || this.#socket === undefined) return
    this.stopWatchdog()
    const halfMs = Math.max(1, Math.floor(this.#watchdogMs / 2))
    let isChecking = false
    const turn = async (): Promise<void> => {
      // The last one hangs: silence is the message.
      if (isChecking) return this.#log.error('self-check has not ended', { waitedMs: halfMs })
      isChecking = true
      const watchdog = this.#watchdog
      const startedMs = performance.now()
      try {
        await check()
        const ms = performance.now() - startedMs
        if (ms > halfMs) this.#log.error('self-check was too slow', { ms: Math.round(ms) })
        // Stopped while it was checked.
        else if (watchdog === this.#watchdog) await this.#tell('WATCHDOG=1')
      } catch (error) {
        this.#log.error('self-check has failed', { error })
      } finally {
        isChecking = false
      }
    }
    this.#watchdog = setInterval(() => void turn(), halfMs).unref()
    void turn()
  }

  stopWatchdog(): void {
    clearInterval(this.#watchdog)
    this.#watchdog = undefined
  }

  /** Never throws: the daemon works without a service manager, too. */
  async #tell(text: string): Promise<void> {
    if (this.#socket === undefined) return
    for (let attempt = 1; ; attempt++) {
      try {
        return binding.notifySocket(this.#socket, text)
      } catch (error) {
        if (!isErrno(error, 'EAGAIN', 'ENOBUFS', 'EINTR') || attempt >= ATTEMPTS_MAX) {
          return this.#log.warn('the service manager cannot be told', {
            text,
            error: describe(error),
          })
        }
      }
      await wait(ATTEMPT_PAUSE_MS)
    }
  }
}

/** One line: a line end would begin an assignment of its own. */
function statusText(text: string): string {
  return text.replace(/\p{Cc}/gu, ' ').slice(0, STATUS_LENGTH_MAX)
}
