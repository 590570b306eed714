/**
 * Told where a piece of work stands from now on, such as `cni ADD bridge`. The names are labels of metrics: words of the program and of the host's configuration,
 * never ids or what a client sent. `patienceMs` is how long it may take and be no news: the grace of a stop.
 *
 * It is handed from call to call: a store that follows every promise by itself (AsyncLocalStorage) costs a daemon a sixth of its time on Node 20.
 */
export type Stage = (name: string, patienceMs?: number) => void

/** Where nobody listens. */
export const untold: Stage = () => {}
