import { constants } from 'node:os'
import { openProcess, signalProcess } from '../kernel/process.ts'
import { type CreateRequest, createContainer } from './create.ts'
import { deleteContainer } from './delete.ts'
import type { Launch } from './launch.ts'
import { startContainer } from './start.ts'

/** Not passed on: they are about this process. */
const OWN = ['SIGCHLD', 'SIGPIPE', 'SIGURG', 'SIGWINCH', 'SIGKILL', 'SIGSTOP', 'SIGPROF']
/** Said by the kernel to who has failed. */
const FAULTS = ['SIGSEGV', 'SIGBUS', 'SIGFPE', 'SIGILL', 'SIGTRAP', 'SIGSYS', 'SIGABRT', 'SIGIOT']
/** Node cannot listen to these. */
const UNHEARD = ['SIGUNUSED', 'SIGSTKFLT', 'SIGPOLL']

/** create and start; with `foreground` also the end, whose code it gives, and the removal. */
export async function runContainer(
  request: CreateRequest & { readonly keep: boolean },
): Promise<number> {
  const { root, warn } = request
  const { place, record, launch } = await createContainer(request)
  const passing = request.foreground ? passSignals(record.pid) : undefined
  try {
    if (!request.foreground) await launch.close()
    await startContainer(place)
    if (!request.foreground) return 0
    const code = await exitOf(launch)
    if (!request.keep) await deleteContainer(root, place, { force: true, warn })
    return code
  } catch (error) {
    await launch.abandon()
    await deleteContainer(root, place, { force: true, warn })
    throw error
  } finally {
    passing?.()
    await launch.close()
  }
}

/** Of a launch in the foreground: how its process has ended. */
export async function exitOf(launch: Launch): Promise<number> {
  const { exit = 1 } = await launch.later()
  return exit
}

/** Hands every signal that comes to us to the process, until the function is called. */
export function passSignals(pid: number): () => void {
  const target = openProcess(pid)
  const left = new Set([...OWN, ...FAULTS, ...UNHEARD])
  const handlers = Object.entries(constants.signals)
    .filter(([name]) => !left.has(name))
    .map(([name, number]) => {
      const handler = (): void => {
        if (target) signalProcess(target, number)
      }
      process.on(name, handler)
      return { name, handler }
    })
  return () => {
    for (const { name, handler } of handlers) process.off(name, handler)
    target?.close()
  }
}
