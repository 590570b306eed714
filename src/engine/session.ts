import type { Monitor } from '../container/index.ts'
import type { Session } from './types.ts'

/** Joins the stdio of a container's first process; the connection ends with the process or when the client leaves. */
export async function openSession(monitor: Monitor, id: string, stdin: boolean): Promise<Session> {
  return endWithProcess(monitor, await monitor.attach(id, { stdin }))
}

/** After the end everything is here already: an open connection would only keep this process alive. */
export function endWithProcess(monitor: Monitor, session: Session): Session {
  const close = (): void => monitor.close()
  session.exit.then(close, close)
  return session
}
