/**
 * CNI configuration into plugin calls, and the three files that tell a container its names.
 *
 * A *network* is a list of plugins from a file (or the built-in bridge); an *attachment* is one interface of one container in it.
 * attachNetwork() and detachNetworks() are what an engine calls: they keep a record a container and interface in a directory of the
 * engine's, written before the first plugin runs, so that nothing that a plugin did is ever forgotten.
 */
export {
  attachedContainers,
  attachedNamespace,
  attachedNetworks,
  attachNetwork,
  checkNetworks,
  detachNetworks,
  dropHalfWritten,
  forgetNetworks,
  recordedNetworks,
  setDamagedAside,
} from './attachment.ts'
export {
  type Attached,
  type Attachment,
  addNetwork,
  type CapabilityArgs,
  type ChainOptions,
  collectNetwork,
  deleteNetwork,
  networkStatus,
} from './chain.ts'
export {
  type BadConf,
  BUILT_IN,
  CONF_DIRECTORY,
  findNetwork,
  loadNetworks,
  type NetworkConf,
} from './conf.ts'
export { type HostsOptions, hostnameFile, hostsFile, parseHost } from './hosts.ts'
export { moveNetDevice } from './net-devices.ts'
export { endOrphans } from './orphans.ts'
export { findPlugin, MissingPlugin, PLUGIN_DIRECTORIES, PluginFault } from './plugin.ts'
export {
  isLoopback,
  parseResolv,
  RESOLV_CONF,
  RESOLVED_CONF,
  type ResolvOptions,
  resolvFile,
} from './resolv.ts'
export type { NetworkAddress, NetworkInterface, NetworkResult } from './result.ts'
export { NetworkDirectory } from './watch.ts'
