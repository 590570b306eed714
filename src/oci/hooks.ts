import { spawn } from 'node:child_process'
import { Fault } from '../base/fault.ts'
import type { HookKind } from '../plan/index.ts'
import type { HookPlan } from '../spec/plan.ts'

/** Of what a hook says, this much is in the error. */
const COMPLAINT_BYTES_MAX = 512

/** Runs hooks of the host one after the other, with the state on stdin and the bundle as cwd. The first that fails ends the row. */
export async function runHooks(
  kind: HookKind,
  hooks: readonly HookPlan[],
  place: { readonly state: object; readonly bundle: string },
): Promise<void> {
  for (const hook of hooks) await runHook(kind, hook, place)
}

async function runHook(
  kind: HookKind,
  hook: HookPlan,
  { state, bundle }: { readonly state: object; readonly bundle: string },
): Promise<void> {
  const fail = (why: string): Fault =>
    new Fault('FAILED_PRECONDITION', `${kind} hook ${hook.path} ${why}`)
  const child = spawn(hook.path, hook.args.slice(1), {
    argv0: hook.args[0] ?? hook.path,
    cwd: bundle,
    env: Object.fromEntries(hook.env.map((entry) => pair(entry))),
    // A process group of its own: at its timeout all of it goes.
    detached: true,
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  let complaint = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (bytes: Buffer) => {
      if (complaint.length < COMPLAINT_BYTES_MAX) complaint += bytes.toString()
    })
  }
  // A hook need not read what it is given.
  child.stdin.on('error', () => {})
  child.stdin.end(JSON.stringify(state))
  let isLate = false
  const late =
    hook.timeoutMs > 0
      ? setTimeout(() => {
          isLate = true
          if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL')
        }, hook.timeoutMs)
      : undefined
  try {
    const code = await new Promise<string>((resolve, reject) => {
      child.once('error', (error) =>
        reject(new Fault('NOT_FOUND', error.message, { cause: error })),
      )
      // Not 'close': children of it that hold the pipes are not waited for.
      child.once('exit', (status, signal) => setImmediate(resolve, String(status ?? signal)))
    })
    if (isLate) throw fail(`did not end within ${hook.timeoutMs} ms`)
    if (code !== '0') {
      const said = complaint.trim().slice(0, COMPLAINT_BYTES_MAX)
      throw fail(`ended with ${code}${said === '' ? '' : `: ${said}`}`)
    }
  } catch (error) {
    throw error instanceof Fault && error.code === 'NOT_FOUND' ? fail(error.message) : error
  } finally {
    clearTimeout(late)
    child.stdout.destroy()
    child.stderr.destroy()
  }
}

function pair(entry: string): [string, string] {
  const at = entry.indexOf('=')
  return at < 0 ? [entry, ''] : [entry.slice(0, at), entry.slice(at + 1)]
}
