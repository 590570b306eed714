import { binding } from './kernel/binding.ts'
import { ownCaller } from './kernel/caller.ts'
import { runOci } from './oci/program.ts'

void runOci(process.argv.slice(2), 'berth-oci', ownCaller()).then((code) => {
  // Nothing that is left open holds us up, nor does taking the heap down; but a profile (--cpu-prof) is written at Node's own end.
  if (!process.execArgv.some((word) => word.includes('prof'))) binding.exitNow(code)
  process.exit(code)
})
