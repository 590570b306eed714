import type { StreamServer } from '../stream/index.ts'

/** Gives the addresses at which clients find stdio and ports. */
export type Streams = Pick<StreamServer, 'url'>
