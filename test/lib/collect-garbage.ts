/** Collects all garbage, so that what a heap still holds is in use: here, and at SIGUSR2 in a daemon that imports this (NODE_OPTIONS). */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

setFlagsFromString('--expose-gc')
export const collectGarbage = runInNewContext('gc') as () => void
process.on('SIGUSR2', () => {
  collectGarbage()
})
