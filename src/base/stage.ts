import { AsyncLocalStorage } from 'node:async_hooks'

/** Is told where a piece of work stands. */
export interface StageListener {
  stage(name: string, patienceMs?: number): void
}

const current = new AsyncLocalStorage<StageListener>()

/**
 * Says what the work that this code is part of does from now on, such as `stage('cni ADD bridge')`; where nobody listens it does nothing. The names are
 * labels of metrics: words of the program, never ids or what came from outside. `patienceMs` is how long it may take and be no news: the grace of a stop.
 */
export function stage(name: string, patienceMs?: number): void {
  current.getStore()?.stage(name, patienceMs)
}

/** Runs `act`; all that it calls and waits for tells its stages to the listener. */
export function withStages<T>(listener: StageListener, act: () => T): T {
  return current.run(listener, act)
}
