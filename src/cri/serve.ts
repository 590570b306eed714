import { fstatSync, readFileSync } from 'node:fs'
import type { Server } from 'node:http'
import { describe } from '../base/fault.ts'
import { type Engine, openEngine } from '../engine/open.ts'
import type { Roots } from '../engine/types.ts'
import { packageVersion } from '../engine/version.ts'
import { Node, type NodeSettings, recoverNode } from '../pod/index.ts'
import { Networks, type NetworksOptions } from '../pod/network.ts'
import { podPaths } from '../pod/paths.ts'
import { StreamServer } from '../stream/index.ts'
import { parseAddress } from './address.ts'
import {
  type Configuration,
  compareConfigurations,
  type LoadedConfiguration,
  type LoadOptions,
  loadConfiguration,
  withReloadable,
} from './config.ts'
import type { Daemon } from './daemon.ts'
import { Debug } from './debug.ts'
import { isJournal, Log } from './log.ts'
import { Metrics } from './metrics.ts'
import { serveMetrics } from './metrics-server.ts'
import { ServiceManager, takeNotifyEnvironment } from './notify.ts'
import { Operations } from './operations.ts'
import { CriServer } from './server.ts'
import { streamHandlers } from './stream-handlers.ts'

/** Calls under way have so long to end when the daemon does; what is cut short is joined or finished by the next one. */
const SHUTDOWN_MS = 5000

/** `berth serve`: answers the CRI until it is told to end. Resolves with its end. */
export async function serve(roots: Roots, options: Omit<LoadOptions, 'state'>): Promise<void> {
  const loadOptions: LoadOptions = { ...options, state: roots.state }
  let loaded = loadConfiguration(loadOptions)
  const log = Log.to(
    process.stderr,
    loaded.values.log,
    isJournal(process.env['JOURNAL_STREAM'], fstatSync(2)),
  )
  const manager = new ServiceManager(takeNotifyEnvironment(process.env, process.pid), log)
  const engine = openEngine({ ...roots, warn: (text) => log.warn(text) })
  const node = new Node(
    engine,
    nodeSettings(loaded.values),
    new Networks(networkSettings(engine, loaded.values)),
  )
  const metrics = new Metrics({
    version: packageVersion(),
    log,
    inFlight: () => countBy(operations.list().map(({ method }) => method)),
    states: async () => states(node),
  })
  const operations: Operations = new Operations({
    log,
    metrics,
    slowStageMs: loaded.values.log.slowStageMs,
  })
  const lock = await recoverNode(node)
  const { stream } = loaded.values
  const streams = await StreamServer.listen(
    {
      host: stream.address,
      port: stream.port,
      idleTimeoutMs: stream.idleTimeoutMs,
      ...(stream.tlsCert === ''
        ? {}
        : {
            tls: {
              certificate: readFileSync(stream.tlsCert),
              key: readFileSync(stream.tlsKey),
            },
          }),
      report: (text, error) => log.error(text, { error: describe(error) }),
    },
    streamHandlers(node),
  )
  const daemon: Daemon = {
    node,
    streams,
    configuration: () => loaded.values,
  }
  const server = new CriServer(daemon, loaded.values.socket, operations, () => loaded.values.limits)
  await server.listen()
  const debug = new Debug({
    version: packageVersion(),
    operations,
    log,
    configuration: () => loaded,
    summary: async () => ({ ...states(node), damage: node.damage }),
  })
  const servers: Server[] = [await debug.serve(roots.state)]
  const { address } = loaded.values.metrics
  if (address !== '') servers.push(await serveMetrics(parseAddress(address), metrics, log))

  const reload = async (): Promise<void> => {
    await manager.reloading()
    loaded = reloaded(loaded, loadOptions, log)
    const { values } = loaded
    log.set(values.log)
    operations.slowStageMs = values.log.slowStageMs
    node.settings = nodeSettings(values)
    node.networks.configure(networkSettings(engine, values))
    await manager.ready('reloaded')
  }
  log.info('ready', {
    socket: loaded.values.socket,
    streamPort: streams.port,
    pods: node.pods.size,
  })
  await manager.ready(`${node.pods.size} pods`)
  manager.startWatchdog(() => node.networks.ready())
  await untilTold(
    () => void reload().catch((error) => log.error('cannot reload', { error: describe(error) })),
    () => void debug.dump(),
  )
  await manager.stopping()
  await server.close(SHUTDOWN_MS)
  await streams.close()
  debug.close()
  for (const each of servers) each.close()
  node.networks.close()
  for (const pod of node.pods.values()) pod.monitor?.close()
  lock.release()
}

function states(node: Node) {
  const pods = { ready: 0, notready: 0 }
  for (const pod of node.pods.values()) pods[pod.isReady ? 'ready' : 'notready']++
  const containers = { created: 0, running: 0, exited: 0 }
  for (const { status } of node.containers.values()) containers[status.state]++
  return { pods, containers }
}

function countBy(names: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const name of names) counts[name] = (counts[name] ?? 0) + 1
  return counts
}

/** What is in force after a reload: what needs a restart stays; a configuration that is wrong changes nothing. */
function reloaded(
  before: LoadedConfiguration,
  options: LoadOptions,
  log: Log,
): LoadedConfiguration {
  const after = loadConfiguration(options)
  for (const change of compareConfigurations(before, after)) {
    const words = { key: change.key, before: change.before, after: change.after }
    if (change.takesEffect === 'reload') log.info('changed', words)
    else log.warn('changed in the files, takes effect at a restart', words)
  }
  return withReloadable(before, after)
}

function nodeSettings(values: Configuration): NodeSettings {
  return {
    missingControllers: values.cgroup.missing,
    handlers: values.runtimeHandlers,
    container: values.container,
    pinnedImages: values.image.pinned,
    pullProgressTimeoutMs: values.image.pullProgressTimeoutMs,
  }
}

function networkSettings(engine: Engine, { network }: Configuration): NetworksOptions {
  return {
    directory: podPaths(engine).networks,
    neighbours: [engine.at.networks],
    warn: engine.warn,
    confDirectory: network.confDir,
    pluginDirectories: network.pluginDirs,
    timeoutMs: network.timeoutMs,
    addressPreference: network.ipPreference,
  }
}

/** SIGHUP reloads, SIGUSR1 tells what is under way; SIGTERM and SIGINT end. */
function untilTold(reload: () => void, dump: () => void): Promise<void> {
  return new Promise((resolve) => {
    process.on('SIGHUP', reload)
    process.on('SIGUSR1', dump)
    const end = (): void => {
      process.off('SIGHUP', reload)
      process.off('SIGUSR1', dump)
      resolve()
    }
    process.once('SIGTERM', end)
    process.once('SIGINT', end)
  })
}
