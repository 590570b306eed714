/** Imported into a daemon (NODE_OPTIONS): at SIGUSR2 it collects all garbage, so that what its heap still holds is in use. */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void
process.on('SIGUSR2', () => {
  collect()
})
