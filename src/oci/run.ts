import { type Caller, CallerGone } from '../kernel/caller.ts'
import { openProcess, signalProcess } from '../kernel/process.ts'
import { type CreateRequest, createContainer } from './create.ts'
import { deleteContainer } from './delete.ts'
import type { Launch } from './launch.ts'
import { startAndTell } from './start.ts'

/** create and start; with `foreground` also the end, whose code it gives, and the removal. */
export async function runContainer(
  request: CreateRequest & { readonly keep: boolean },
): Promise<number> {
  const { caller, root, warn } = request
  const { place, record, launch } = await createContainer(request)
  const passing = request.foreground ? passSignals(caller, record.pid) : undefined
  // The start waits for it, and fails with it.
  passing?.catch(() => {})
  try {
    if (!request.foreground) await launch.close()
    const telling = { notify: request.notify, warn }
    if (!request.foreground) {
      await startAndTell(caller, place, telling)
      return 0
    }
    // Who waits for the container is the main process to its caller.
    await startAndTell(caller, place, {
      ...telling,
      before: passing,
      mainPid: caller.pid === 'self' ? process.pid : caller.pid,
    })
    const code = await exitOf(launch)
    if (!request.keep) await deleteContainer(caller, root, place, { force: true, warn })
    return code
  } catch (error) {
    // A killed berth-oci leaves its container as it is.
    if (error instanceof CallerGone) throw error
    await launch.abandon()
    await deleteContainer(caller, root, place, { force: true, warn })
    throw error
  } finally {
    // Of a caller that has gone there is nothing to stop; the launch's descriptors are closed all the same.
    const stop = await passing?.catch(() => undefined)
    stop?.()
    await launch.close()
  }
}

/** Of a launch in the foreground: how its process has ended. */
export async function exitOf(launch: Launch): Promise<number> {
  const { exit = 1 } = await launch.later()
  return exit
}

/** Hands every signal that comes to the caller to the process, until the function is called. */
export async function passSignals(caller: Caller, pid: number): Promise<() => void> {
  const target = openProcess(pid)
  let stop: () => void
  try {
    stop = await caller.onSignal((signal) => {
      if (target) signalProcess(target, signal)
    })
  } catch (error) {
    target?.close()
    throw error
  }
  return () => {
    stop()
    target?.close()
  }
}
