/** The thread of `berth serve` that does command lines for native/front: what they read and write synchronously holds up no pod. */
import { fileURLToPath } from 'node:url'
import { parentPort, workerData } from 'node:worker_threads'
import { runCommandLine } from './cli/command-line.ts'
import type { Roots } from './engine/types.ts'
import { FrontServer } from './front/server.ts'
import { programAhead } from './oci/launch.ts'
import { runOci } from './oci/program.ts'

const roots = workerData as Roots
const server = new FrontServer(roots.state, fileURLToPath(import.meta.url), {
  run: (call, caller) =>
    call.program === 'berth-oci'
      ? runOci(call.args, call.program, caller)
      : runCommandLine(call.args, caller, caller.stdio, roots),
  ahead: ({ program, args }) => (program === 'berth-oci' ? programAhead(args) : undefined),
})
parentPort?.once('message', () => server.close())
void server.serve().then(() => parentPort?.close())
