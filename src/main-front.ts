/** The thread of `berth serve` that does command lines for native/front: what they read and write synchronously holds up no pod. */
import { fileURLToPath } from 'node:url'
import { parentPort, workerData } from 'node:worker_threads'
import { FrontServer } from './front/server.ts'
import { NotHere } from './kernel/caller.ts'
import { runOci } from './oci/program.ts'

const { state } = workerData as { readonly state: string }
const server = new FrontServer(state, fileURLToPath(import.meta.url), (call, caller) => {
  if (call.program !== 'berth-oci') throw new NotHere()
  return runOci(call.args, call.program, caller)
})
parentPort?.once('message', () => server.close())
void server.serve().then(() => parentPort?.close())
