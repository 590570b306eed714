import { ownCaller } from './kernel/caller.ts'
import { runOci } from './oci/program.ts'

void runOci(process.argv.slice(2), 'berth-oci', ownCaller()).then((code) => {
  // Nothing that is left open holds us up, nor does taking the heap down.
  process.exit(code)
})
