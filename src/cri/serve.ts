import { fstatSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Writable } from 'node:stream'
import { describe, Fault } from '../base/fault.ts'
import { requireSystemd } from '../cgroup/index.ts'
import { type Engine, openEngine } from '../engine/open.ts'
import type { Roots } from '../engine/types.ts'
import { packageVersion } from '../engine/version.ts'
import { collectSoon } from '../pod/image-collect.ts'
import { imageMetrics } from '../pod/images.ts'
import { Node, type NodeSettings, recoverNode, watchMemory } from '../pod/index.ts'
import { Networks, type NetworksOptions } from '../pod/network.ts'
import { podPaths } from '../pod/paths.ts'
import { StreamServer, type StreamServerOptions } from '../stream/index.ts'
import { type Configuration, type LoadOptions, loadConfiguration } from './config.ts'
import { checkFiles } from './config-check.ts'
import type { Daemon } from './daemon.ts'
import { Debug } from './debug.ts'
import { Front } from './front.ts'
import { keepHeapSmall } from './heap.ts'
import { LiveConfiguration } from './live-config.ts'
import { isJournal, Log } from './log.ts'
import { Metrics } from './metrics.ts'
import { MetricsEndpoint } from './metrics-server.ts'
import { ServiceManager, takeNotifyEnvironment } from './notify.ts'
import { Operations } from './operations.ts'
import { checkAnswers } from './self-check.ts'
import { CriServer } from './server.ts'
import { streamHandlers } from './stream-handlers.ts'
import { prepareWarmUp } from './warm-up.ts'

/** Calls under way have so long to end when the daemon does; what is cut short is joined or finished by the next one. */
const SHUTDOWN_MS = 5000
const LOG_DRAIN_MS = 1000
/** What killed pulls and removals have left on the disk is looked for at the start, and then so often. */
const COLLECT_MS = 60 * 60_000

/** `berth serve`: answers the CRI until it is told to end. Resolves with its end. `output` takes the log. */
export async function serve(
  roots: Roots,
  options: Omit<LoadOptions, 'state'>,
  output: Writable & { readonly fd: number },
): Promise<void> {
  // As daemon(7) has it: what commands of others write here has the mode that they would give it, and no stricter one.
  process.umask(0o022)
  keepHeapSmall()
  // Before anything is started: plugins and monitors must not speak for the daemon.
  const notify = takeNotifyEnvironment(process.env, process.pid)
  const signals = new Signals()
  const loadOptions: LoadOptions = { ...options, state: roots.state }
  const loaded = loadConfiguration(loadOptions)
  const [problem] = checkFiles(loaded.values)
  if (problem !== undefined) throw new Fault('FAILED_PRECONDITION', problem)
  if (loaded.values.cgroup.driver === 'systemd') requireSystemd()
  const toJournal = isJournal(process.env['JOURNAL_STREAM'], fstatSync(output.fd))
  const log = Log.to(output, loaded.values.log, toJournal)
  log.info('starting', { version: packageVersion(), ...roots, config: loaded.files.join(' ') })
  const live = new LiveConfiguration(loadOptions, loaded, log)
  const manager = new ServiceManager(notify, log)
  const engine = openEngine({ ...roots, warn: (text) => log.warn(text) })
  const node = new Node(
    engine,
    nodeSettings(live.values),
    new Networks(networkSettings(engine, live.values)),
  )
  const lock = await recoverNode(node)
  const metrics = new Metrics({
    version: packageVersion(),
    log,
    inFlight: () => countBy(operations.list().map(({ method }) => method)),
    states: async () => states(node),
    sums: () => sums(node),
  })
  const operations: Operations = new Operations({
    log,
    metrics,
    slowStageMs: live.values.log.slowStageMs,
    // The client has its answer first, with its trailers: Node's http2 submits those in the next turn of the loop, behind what waits there already.
    tell: (act) => setImmediate(setImmediate, act),
  })
  const debug = new Debug({
    version: packageVersion(),
    operations,
    log,
    configuration: () => live.loaded,
    summary: async () => ({ ...states(node), damage: node.damage }),
  })
  signals.dump = () => void debug.dump()

  const streams = await StreamServer.listen(
    streamOptions(live.values, log),
    streamHandlers(node, log),
  )
  const daemon: Daemon = { node, streams, configuration: () => live.values }
  const { socket } = live.values
  const warmUp = await prepareWarmUp(daemon, join(roots.state, 'warm-up.sock')).catch((error) =>
    log.debug('no warm-up', { error }),
  )
  const server = new CriServer(daemon, socket, operations, () => live.values.limits)
  await server.listen()
  const debugServer = await debug.serve(roots.state)
  const front = new Front(roots, log)
  const endpoint = new MetricsEndpoint(metrics, log)
  await endpoint.listen(live.values.metrics.address)

  live.onChange(async (values) => {
    log.set(values.log)
    operations.slowStageMs = values.log.slowStageMs
    node.settings = nodeSettings(values)
    node.networks.configure(networkSettings(engine, values))
    streams.configure(streamOptions(values, log))
    await endpoint.listen(values.metrics.address)
  })
  signals.reload = async () => {
    await manager.reloading()
    await live.reload()
    await manager.ready(`${node.pods.size} pods`)
  }
  const collecting = setInterval(() => void collectSoon(engine), COLLECT_MS)
  void collectSoon(engine)
  const watching = new AbortController()
  void watchMemory(node, watching.signal)
  const ms = Math.round(process.uptime() * 1000)
  log.info('ready', { socket, streamPort: streams.port, pods: node.pods.size, ms })
  await manager.ready(`${node.pods.size} pods`)
  node.monitors.keepSpare()
  manager.startWatchdog(() => checkAnswers(socket))
  const ending = new AbortController()
  // A kubelet listens to events as long as it lives.
  const isIdle = () => operations.list().every(({ method }) => method === 'GetContainerEvents')
  const warming = warmUp?.({ isIdle, signal: ending.signal }).catch((error) =>
    log.debug('warm-up', { error }),
  )

  await signals.end
  ending.abort()
  clearInterval(collecting)
  watching.abort()
  log.info('ending')
  await manager.stopping()
  await warming
  await front.close()
  await server.close(SHUTDOWN_MS)
  await streams.close()
  await endpoint.close()
  debug.close()
  debugServer.close()
  node.networks.close()
  for (const pod of node.pods.values()) pod.monitor?.close()
  await node.monitors.end()
  // Of the next daemon it would be debris, which two must not remove at once.
  await Promise.all(node.removals)
  lock.release()
  await log.drain(LOG_DRAIN_MS)
  signals.close()
}

function sums({ engine, events }: Node) {
  const { succeeded, failed, cancelled, fetchedBytes } = imageMetrics(engine)
  return {
    pulls: { success: succeeded, failure: failed, cancelled },
    pulledBytes: fetchedBytes,
    eventsDropped: events.dropped,
  }
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

function nodeSettings(values: Configuration): NodeSettings {
  return {
    cgroupDriver: values.cgroup.driver,
    missingControllers: values.cgroup.missing,
    handlers: values.runtimeHandlers,
    container: values.container,
    pinnedImages: values.image.pinned,
    pullProgressTimeoutMs: values.image.pullProgressTimeoutMs,
    layersAtOnce: values.image.maxConcurrentDownloads,
    keepBlobs: values.image.keepBlobs,
    signaturePolicy: values.image.signaturePolicy || undefined,
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
    inProcess: network.builtinPlugins,
    addressPreference: network.ipPreference,
  }
}

function streamOptions({ stream }: Configuration, log: Log): StreamServerOptions {
  const { address, port, idleTimeoutMs, tlsCert, tlsKey } = stream
  return {
    host: address,
    port,
    // 0 is never: what a timer can wait (24 days).
    idleTimeoutMs: idleTimeoutMs || 2 ** 31 - 1,
    ...(tlsCert === ''
      ? {}
      : { tls: { certificate: readFileSync(tlsCert), key: readFileSync(tlsKey) } }),
    report: (text, error) => log.error(text, { error: describe(error) }),
  }
}

/** SIGHUP reloads, SIGUSR1 tells what is under way; SIGTERM and SIGINT end. */
class Signals {
  reload: () => Promise<void> = async () => {}
  dump: () => void = () => {}
  readonly end: Promise<void>
  #reloading: Promise<void> = Promise.resolve()
  readonly #handlers: [NodeJS.Signals, () => void][]

  constructor() {
    let end = (): void => {}
    this.end = new Promise((resolve) => {
      end = resolve
    })
    this.#handlers = [
      // One at a time.
      ['SIGHUP', () => (this.#reloading = this.#reloading.then(() => this.reload()))],
      // Node's own answer to it would be to open its debugger.
      ['SIGUSR1', () => this.dump()],
      ['SIGTERM', end],
      ['SIGINT', end],
    ]
    for (const [name, handler] of this.#handlers) process.on(name, handler)
  }

  close(): void {
    for (const [name, handler] of this.#handlers) process.off(name, handler)
  }
}
