/**
 * The streaming server of exec, attach and port-forward. It knows neither containers nor the CRI: `Handlers` open the sessions and connections, and
 * `StreamServer.url()` gives whoever asked for one the place to connect to.
 */
export { StreamServer, type StreamServerOptions, type TlsPair } from './server.ts'
export type {
  AttachRequest,
  ExecRequest,
  ForwardRequest,
  Handlers,
  Session,
  Stdio,
  StreamRequest,
} from './types.ts'
