import { Fault } from '../../base/fault.ts'

/** Not in this version: told with the code by which a client knows that, and not that something went wrong. */
const refuse = (what: string) => async (): Promise<never> => {
  throw new Fault('UNIMPLEMENTED', `berth cannot ${what} yet`)
}

export const checkpointContainer = refuse('checkpoint containers')
export const checkpointPod = refuse('checkpoint pods')
export const restorePod = refuse('restore pods')
