import type { Node } from '../pod/index.ts'
import type { Configuration } from './config.ts'
import type { Streams } from './streams.ts'

/** What a call of the CRI works with. */
export interface Daemon {
  readonly node: Node
  readonly streams: Streams
  /** The effective configuration. */
  readonly configuration: () => Configuration
}
