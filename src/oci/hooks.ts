import { Socket } from 'node:net'
import { setImmediate as turn } from 'node:timers/promises'
import { Fault } from '../base/fault.ts'
import type { ExitStatus } from '../kernel/binding.ts'
import type { Caller } from '../kernel/caller.ts'
import { twoPipes } from '../kernel/pipe.ts'
import type { HookKind } from '../plan/index.ts'
import type { HookPlan } from '../spec/plan.ts'

/** Of what a hook says, this much is in the error. */
const COMPLAINT_BYTES_MAX = 512

/** Runs hooks of the host one after the other, with the state on stdin and the bundle as cwd. The first that fails ends the row. */
export async function runHooks(
  caller: Caller,
  kind: HookKind,
  hooks: readonly HookPlan[],
  place: { readonly state: object; readonly bundle: string },
): Promise<void> {
  for (const hook of hooks) await runHook(caller, kind, hook, place)
}

async function runHook(
  caller: Caller,
  kind: HookKind,
  hook: HookPlan,
  { state, bundle }: { readonly state: object; readonly bundle: string },
): Promise<void> {
  const fail = (why: string): Fault =>
    new Fault('FAILED_PRECONDITION', `${kind} hook ${hook.path} ${why}`)
  using pipes = twoPipes()
  const { read: inputEnd, write } = pipes.first
  const { read, write: outputEnd } = pipes.second
  const stdin = new Socket({ fd: write.release(), readable: false, writable: true })
  const said = new Socket({ fd: read.release(), readable: true, writable: false })
  let complaint = ''
  said.on('data', (bytes: Buffer) => {
    if (complaint.length < COMPLAINT_BYTES_MAX) complaint += bytes.toString()
  })
  const child = caller.spawn({
    file: hook.path,
    args: hook.args,
    env: hook.env,
    fds: [inputEnd, outputEnd, outputEnd],
    directory: bundle,
    // At its timeout all of the group goes.
    group: true,
  })
  inputEnd.close()
  outputEnd.close()
  // A hook need not read what it is given.
  stdin.on('error', () => {})
  stdin.end(JSON.stringify(state))
  let isLate = false
  const late =
    hook.timeoutMs > 0
      ? setTimeout(() => {
          isLate = true
          child.kill()
        }, hook.timeoutMs)
      : undefined
  try {
    const { code, signal } = await ended(child.status, (why) => fail(why))
    // What it has said last: in the turn that tells of its end the pipe may have been looked at before, in the next one it is looked at after it. Children of
    // it that hold the pipes are not waited for.
    await turn()
    await turn()
    if (isLate) throw fail(`did not end within ${hook.timeoutMs} ms`)
    if (code !== 0) {
      const text = complaint.trim().slice(0, COMPLAINT_BYTES_MAX)
      const how = signal > 0 ? `signal ${signal}` : code
      throw fail(`ended with ${how}${text === '' ? '' : `: ${text}`}`)
    }
  } finally {
    clearTimeout(late)
    stdin.destroy()
    said.destroy()
  }
}

async function ended(
  status: Promise<ExitStatus>,
  fail: (why: string) => Fault,
): Promise<ExitStatus> {
  try {
    return await status
  } catch (error) {
    throw fail(`cannot be executed: ${(error as NodeJS.ErrnoException).code ?? String(error)}`)
  }
}
