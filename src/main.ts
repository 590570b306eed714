import { runCommandLine } from './cli/command-line.ts'
import { ownStdio } from './cli/own-stdio.ts'
import { ownCaller } from './kernel/caller.ts'

void runCommandLine(process.argv.slice(2), ownCaller(), ownStdio).then((code) => {
  // Nothing that is left open holds us up, nor does taking the heap down.
  process.exit(code)
})
