import { isIP } from 'node:net'
import { Fault } from '../base/fault.ts'
import { CONF_DIRECTORY, PLUGIN_DIRECTORIES } from '../network/index.ts'
import { parseUlimit } from '../plan/ulimit.ts'
import { ALL_CAPABILITIES, DEFAULT_CAPABILITIES } from '../spec/defaults.ts'
import { checkSocketPath, parseAddress } from './address.ts'
import { choice, duration, flag, integer, list, text, type Values } from './setting.ts'

const MIB = 1024 * 1024
const SECOND = 1000
const MINUTE = 60 * SECOND
const HOUR = 60 * MINUTE

function refuse(reason: string): never {
  throw new Fault('INVALID_ARGUMENT', reason)
}

function absolute(path: string): string {
  return path.startsWith('/') ? path : refuse('it must be an absolute path')
}

function optional(check: (text: string) => unknown): (text: string) => void {
  return (given) => {
    if (given !== '') check(given)
  }
}

function capability(name: string): string {
  const full = name.startsWith('CAP_') ? name : `CAP_${name}`
  return ALL_CAPABILITIES.includes(full) ? full : refuse(`"${name}" is no capability`)
}

function ulimit(given: string): string {
  parseUlimit(given)
  return given
}

/** A name, or a part of one with `*` at its end or at both ends. */
function glob(pattern: string): string {
  if (!/^\*?[^*\s]+\*?$/.test(pattern) || /^\*[^*]+$/.test(pattern)) {
    refuse(`"${pattern}" is no pattern: NAME, BEGINNING* or *PART*`)
  }
  return pattern
}

/**
 * What a container gets that a pod says nothing about. Table [container] is for every pod, [runtime_handlers.NAME] for those whose RuntimeClass has that
 * handler; a key that is missing there is as in [container].
 */
export const HANDLER_SETTINGS = {
  /** File of the profile for RuntimeDefault, in docker's or the OCI's form; "" is berth's own. Read at each start of a container. */
  seccompProfile: text('', 'reload', optional(absolute)),
  /** Before the pod's `add` and `drop`. The default is docker's and containerd's set. */
  capabilities: list(DEFAULT_CAPABILITIES, 'reload', capability),
  /** `NAME=SOFT[:HARD]`; without an entry a container has the daemon's own limits, as under containerd. */
  ulimits: list([], 'reload', ulimit),
  /** Privileged containers get the devices they ask for, not all of the host's. */
  privilegedWithoutHostDevices: flag(false, 'reload'),
  /** For a daemon without CAP_SYS_RESOURCE (development): an oom_score_adj below its own becomes its own, with a warning. containerd's name and default. */
  restrictOomScoreAdj: flag(false, 'reload'),
}

export type HandlerSettings = Values<typeof HANDLER_SETTINGS>

/**
 * Every key, with the reason for its default. A name in the file is in snake_case, without a unit: `idleTimeoutMs` is `idle_timeout` and text ("4h").
 * What is read at start only, or belongs to something that is bound then, takes effect at a restart.
 */
export const SETTINGS = {
  /** kubelet's --container-runtime-endpoint. STATE/berth.sock by default: a second berth with a state of its own has a socket of its own. */
  socket: text('/run/berth/berth.sock', 'restart', checkSocketPath),
  log: {
    level: choice('info', 'reload', ['debug', 'info', 'warn', 'error']),
    format: choice('text', 'reload', ['text', 'json']),
    /** A quarter of kubelet's --runtime-request-timeout (2 min): the log names the slow stage before kubelet gives up. */
    slowStageMs: duration(30 * SECOND, 'reload', { min: SECOND, max: HOUR }),
  },
  stream: {
    /** kubelet and runtime share the machine; containerd's and CRI-O's default. */
    address: text('127.0.0.1', 'restart', (given) => {
      if (isIP(given) === 0) refuse('it must be an IP address')
    }),
    /** 0: the kernel chooses, kubelet is told with each URL. As in containerd and CRI-O. */
    port: integer(0, 'restart', { min: 0, max: 65_535 }),
    /** Both or neither; "" is plain HTTP. What the files hold is read anew at a reload. */
    tlsCert: text('', 'restart', optional(absolute)),
    tlsKey: text('', 'restart', optional(absolute)),
    /** containerd's and kubelet's default. */
    idleTimeoutMs: duration(4 * HOUR, 'reload', { min: SECOND, max: 24 * HOUR, zero: true }),
  },
  cgroup: {
    /** As kubelet's cgroupDriver, which asks for it by RuntimeConfig. "systemd": a pod's groups are in a scope of the slice that the kubelet names. */
    driver: choice('cgroupfs', 'restart', ['cgroupfs', 'systemd']),
    /** What becomes of a hard limit whose controller the host lacks. "warn" is for development. */
    missing: choice('refuse', 'reload', ['refuse', 'warn']),
  },
  network: {
    confDir: text(CONF_DIRECTORY, 'restart', absolute),
    pluginDirs: list(PLUGIN_DIRECTORIES, 'reload', absolute),
    /** For one plugin call. Half of kubelet's --runtime-request-timeout, so that a failed ADD can still be undone in time. */
    timeoutMs: duration(MINUTE, 'reload', { min: SECOND, max: 10 * MINUTE }),
    /** Whether what is known of the standard plugins is done by the daemon itself, without starting them. */
    builtinPlugins: flag(true, 'reload'),
    /** Which family is a pod's first address; "cni" leaves the plugins' order. containerd's ip_pref and its default. */
    ipPreference: choice('ipv4', 'reload', ['ipv4', 'ipv6', 'cni']),
  },
  image: {
    /** Images that kubelet must not collect: NAME, BEGINNING* or *PART*. */
    pinned: list([], 'reload', glob),
    /** A pull without a byte for so long fails; kubelet sets no deadline. containerd's default. */
    pullProgressTimeoutMs: duration(5 * MINUTE, 'reload', { min: SECOND, max: HOUR, zero: true }),
    /** Layers of one image at once. docker's and containerd's number. */
    maxConcurrentDownloads: integer(3, 'reload', { min: 1, max: 64 }),
    /** Whether the archives of layers stay once these are unpacked: a push or save then sends them as they came. */
    keepBlobs: flag(true, 'reload'),
    /** File of the signature policy, in the format of podman's policy.json; "" is /etc/berth/policy.json, which may be missing. Read at each pull. */
    signaturePolicy: text('', 'reload', optional(absolute)),
  },
  limits: {
    /** Of one gRPC message. kubelet's and crictl's clients take 16 MiB. */
    messageBytes: integer(16 * MIB, 'restart', { min: MIB, max: 256 * MIB }),
    /** More are refused with RESOURCE_EXHAUSTED. kubelet has one call at a time for each of its 110 pods, and polls; this is for ten times as many. */
    inFlightCalls: integer(1024, 'reload', { min: 16, max: 65_536 }),
  },
  metrics: {
    /** Prometheus' text at /metrics: `127.0.0.1:9090`, `unix:/path`, "" for none. Without authentication: everybody who can connect may read it. */
    address: text('', 'reload', optional(parseAddress)),
  },
  container: HANDLER_SETTINGS,
}

export type Configuration = Values<typeof SETTINGS> & {
  /** By name; the handler "" is `container`. A Map: a handler may be called as a property that every object has. */
  readonly runtimeHandlers: ReadonlyMap<string, HandlerSettings>
}
