import { isIP } from 'node:net'
import { type Command, Option } from 'commander'
import { Fault } from '../base/fault.ts'
import type { RunOptions } from '../engine/options.ts'
import type { Caller } from '../kernel/caller.ts'
import { parseHost } from '../network/hosts.ts'
import { option, refuse } from './output.ts'
import {
  parseByteRate,
  parseDevice,
  parseDeviceWeight,
  parseOperationRate,
} from './parse/device.ts'
import {
  parseEnv,
  parseEnvFile,
  parseLabel,
  parseLabelFile,
  readOptionFile,
} from './parse/environment.ts'
import { parseRestart, parseSysctl, parseUlimit } from './parse/limits.ts'
import { parseMount, parseTmpfs, parseVolume } from './parse/mount.ts'
import { parseNamespace, parseNetwork, parseSignal, parseUserNamespace } from './parse/namespace.ts'
import { parsePorts } from './parse/port.ts'
import { parseSecurity } from './parse/security.ts'
import {
  parseCpus,
  parseInteger,
  parseOctal,
  parseSize,
  parseSizeOrUnlimited,
} from './parse/size.ts'

const ANY = Number.MAX_SAFE_INTEGER
const plain = (text: string): string => text

/** The options that `run` and `create` share. They end where the image's name stands. */
export function addRunOptions(
  command: Command,
  context: { readonly caller: Pick<Caller, 'resolve'> },
): Command {
  // Who calls is not known yet.
  const cwd = (): string => context.caller.resolve('.')
  // commander's help lists options in the order of their making; the groups keep it readable.
  const group = (title: string, ...options: Option[]): void => {
    for (const each of options) command.addOption(each.helpGroup(title))
  }
  group(
    'Container:',
    option('--name <name>', 'name of the container', plain),
    new Option('--rm', 'remove the container when it stops'),
    new Option('-i, --interactive', 'keep stdin open'),
    new Option('-t, --tty', 'give it a terminal'),
    new Option('--init', 'run a small init as PID 1 that passes signals on and reaps'),
    option('-l, --label <key=value>', 'label', parseLabel, 'many'),
    option('--label-file <file>', 'labels from a file, one a line', plain, 'many'),
    option('--annotation <key=value>', 'OCI annotation', parseLabel, 'many'),
    option('--restart <policy>', 'no, always, unless-stopped, on-failure[:N]', parseRestart),
    option(
      '--stop-signal <signal>',
      "signal that asks it to stop (the image's, or TERM)",
      parseSignal,
    ),
    option(
      '--stop-timeout <seconds>',
      'then KILL after so many seconds (10)',
      parseInteger(-1, 1e9),
    ),
    option('--log-driver <driver>', 'cri (default), or none to keep no log', parseLogDriver),
    option('--cidfile <file>', 'write the id to a new file', plain),
    option('--pull <when>', 'missing (default), always, never', parsePull),
    option('--platform <os/arch>', 'of an image for several, such as linux/arm64', plain),
  )
  group(
    'Program:',
    option(
      '--entrypoint <program>',
      "in place of the image's; may be a JSON list",
      parseEntrypoint,
    ),
    option(
      '-e, --env <name=value>',
      "environment; a name alone takes the caller's value",
      parseEnv,
      'many',
    ),
    option('--env-file <file>', 'environment from a file, a variable a line', plain, 'many'),
    option('-w, --workdir <directory>', 'working directory', plain),
    option('-u, --user <user[:group]>', 'names or numbers', plain),
    option('--group-add <group>', 'supplementary group', plain, 'many'),
    option('--umask <octal>', 'file mode creation mask (0022)', parseOctal),
    option('--ulimit <name=soft[:hard]>', 'such as nofile=1024:4096', parseUlimit, 'many'),
    option('--oom-score-adj <n>', '-1000 to 1000', parseInteger(-1000, 1000)),
  )
  group(
    'Files:',
    option(
      '-v, --volume <source:target[:options]>',
      'bind mount (/path or ./path) or volume (name)',
      (text) => parseVolume(text, cwd()),
      'many',
    ),
    option(
      '--mount <key=value,…>',
      'type=bind|volume|tmpfs,src=,dst=,ro …',
      (text) => parseMount(text, cwd()),
      'many',
    ),
    option(
      '--tmpfs <target[:options]>',
      'in-memory file system, such as /run:size=64m',
      parseTmpfs,
      'many',
    ),
    new Option('--read-only', "the image's files cannot be changed"),
    option('--shm-size <size>', 'of /dev/shm (64m)', parseSize),
    option('--device <source[:target][:rwm]>', 'device of the host', parseDevice, 'many'),
  )
  group(
    'Isolation:',
    new Option('--privileged', 'all capabilities and devices, no filters: no isolation from root'),
    option('--cap-add <capability>', 'NET_ADMIN, ALL …', parseCapability, 'many'),
    option('--cap-drop <capability>', 'CHOWN, ALL …', parseCapability, 'many'),
    option(
      '--security-opt <option>',
      'seccomp=FILE|unconfined, no-new-privileges, apparmor=NAME, mask=, unmask=PATHS|ALL',
      plain,
      'many',
    ),
    option('--sysctl <name=value>', "setting of the container's namespaces", parseSysctl, 'many'),
    option('--userns <mode>', 'host, auto, UID:GID:SIZE', parseUserNamespace),
    option('--pid <mode>', 'private, host, container:ID, ns:PATH', parseNamespace()),
    option('--ipc <mode>', 'as --pid', parseNamespace('shareable', 'none')),
    option('--uts <mode>', 'as --pid', parseNamespace()),
    option('--time <mode>', 'as --pid', parseNamespace()),
    option('--cgroupns <mode>', 'as --pid', parseNamespace()),
  )
  group(
    'Network:',
    option(
      '--network <mode>',
      'bridge, none, host, container:ID, ns:PATH or a network',
      parseNetwork,
    ),
    option('--net <mode>', 'the same', parseNetwork).hideHelp(),
    option('--network-alias <name>', 'further name in the network', plain, 'many'),
    option('--net-alias <name>', 'the same', plain, 'many').hideHelp(),
    option(
      '-p, --publish <[ip:][host:]port[/proto]>',
      'port of the host that leads to one of it',
      parsePorts,
      'many',
    ),
    option('-h, --hostname <name>', 'host name', plain),
    option('--domainname <name>', 'NIS domain name', plain),
    option('--dns <server>', 'name server', parseNameServer, 'many'),
    option('--dns-search <domain>', 'search domain', plain, 'many'),
    option('--dns-option <option>', 'option of resolv.conf', plain, 'many'),
    option('--dns-opt <option>', 'the same', plain, 'many').hideHelp(),
    option(
      '--add-host <name:ip>',
      'line of /etc/hosts; the ip may be host-gateway',
      parseAddHost,
      'many',
    ),
  )
  addLimitOptions(command)
  group(
    'Limits:',
    option('--blkio-weight-device <device:weight>', '10 to 1000', parseDeviceWeight, 'many'),
    option(
      '--device-read-bps <device:rate>',
      'bytes a second, such as /dev/sda:1m',
      parseByteRate,
      'many',
    ),
    option('--device-write-bps <device:rate>', 'bytes a second', parseByteRate, 'many'),
    option('--device-read-iops <device:rate>', 'operations a second', parseOperationRate, 'many'),
    option('--device-write-iops <device:rate>', 'operations a second', parseOperationRate, 'many'),
    option(
      '--oom-group <boolean>',
      'true: out of memory kills all of its processes, not one',
      parseBoolean,
    ),
    option('--cgroup-parent <path>', 'cgroup to make its cgroup in', parseCgroupParent),
  )
  refuse(command, REFUSED)
  // What it asks for is so.
  command.addOption(new Option('--no-healthcheck').hideHelp())
  command.helpOption('--help', 'this text')
  return command.passThroughOptions()
}

/** The limits that `update` can change too. */
export function addLimitOptions(command: Command): Command {
  for (const each of [
    option('-m, --memory <size>', 'memory, such as 64m', parseSize),
    option('--memory-swap <size>', 'memory and swap together; -1 for any', parseSizeOrUnlimited),
    option('--memory-reservation <size>', 'memory to leave it under pressure', parseSize),
    option('--cpus <number>', 'processors, such as 0.5', parseCpus),
    option(
      '-c, --cpu-shares <weight>',
      'relative weight, 2 to 262144 (1024)',
      parseInteger(2, 262_144),
    ),
    option('--cpu-period <µs>', 'of the quota, 1000 to 1000000', parseInteger(1000, 1_000_000)),
    option('--cpu-quota <µs>', 'CPU time in each period; -1 for any', parseInteger(-1, ANY)),
    option('--cpuset-cpus <list>', 'processors it may use, such as 0-2,5', parseList),
    option('--cpuset-mems <list>', 'memory nodes it may use', parseList),
    option('--pids-limit <n>', 'processes and threads; -1 for any', parseInteger(-1, ANY)),
    option(
      '--blkio-weight <weight>',
      'relative weight of disk use, 10 to 1000',
      parseInteger(10, 1000),
    ),
  ]) {
    command.addOption(each.helpGroup('Limits:'))
  }
  return command
}

/** What commander has collected, as the engine takes it. */
export function runOptions(
  image: string,
  args: readonly string[],
  given: Readonly<Record<string, unknown>>,
  caller: Pick<Caller, 'resolve'>,
): RunOptions {
  const one = <T>(key: string): T | undefined => given[key] as T | undefined
  const many = <T>(key: string): T[] => (given[key] as T[] | undefined) ?? []
  const yes = (key: string): boolean => given[key] === true
  const read = (file: string): string => readOptionFile(caller, file)
  const security = parseSecurity(many('securityOpt'))
  const labels = many<string>('labelFile').flatMap((f) => parseLabelFile(read(f)))
  const options: RunOptions = {
    image,
    command: [...args],
    entrypoint: one('entrypoint'),
    name: one('name'),
    platform: one('platform'),
    pull: one('pull') ?? 'missing',
    remove: yes('rm'),
    interactive: yes('interactive'),
    terminal: yes('tty'),
    detach: yes('detach'),
    reaper: yes('init'),
    env: [
      ...many<string>('envFile').flatMap((file) => parseEnvFile(read(file), file)),
      ...many<string>('env'),
    ],
    workdir: one('workdir'),
    user: one('user'),
    groupAdd: many('groupAdd'),
    hostname: one('hostname'),
    domainname: one('domainname'),
    labels: Object.fromEntries([...labels, ...many<[string, string]>('label')]),
    annotations: Object.fromEntries(many<[string, string]>('annotation')),
    readOnly: yes('readOnly'),
    mounts: [...many<never>('volume'), ...many<never>('mount'), ...many<never>('tmpfs')],
    shmSize: one('shmSize'),
    devices: many('device'),
    privileged: yes('privileged'),
    capAdd: many('capAdd'),
    capDrop: many('capDrop'),
    ...security,
    sysctls: Object.fromEntries(many<[string, string]>('sysctl')),
    ulimits: many('ulimit'),
    oomScoreAdj: one('oomScoreAdj'),
    umask: one('umask'),
    ...limitOptions(given),
    blkioWeightDevice: many('blkioWeightDevice'),
    deviceReadBps: many('deviceReadBps'),
    deviceWriteBps: many('deviceWriteBps'),
    deviceReadIops: many('deviceReadIops'),
    deviceWriteIops: many('deviceWriteIops'),
    oomGroup: one('oomGroup'),
    cgroupParent: one('cgroupParent'),
    cgroupns: one('cgroupns'),
    userns: one('userns'),
    pid: one('pid'),
    ipc: one('ipc'),
    uts: one('uts'),
    time: one('time'),
    network: one('network') ?? one('net'),
    networkAliases: [...many<string>('networkAlias'), ...many<string>('netAlias')],
    dns: many('dns'),
    dnsSearch: many('dnsSearch'),
    dnsOptions: [...many<string>('dnsOption'), ...many<string>('dnsOpt')],
    addHosts: many('addHost'),
    ports: many<never[]>('publish').flat(),
    restart: one('restart') ?? { policy: 'no', maximumRetries: 0 },
    stopSignal: one('stopSignal'),
    stopTimeoutS: one('stopTimeout'),
    logDriver: one('logDriver') ?? 'cri',
    cidfile: one('cidfile'),
  }
  conflicts(options)
  return options
}

/** The values of addLimitOptions. */
export function limitOptions(given: Readonly<Record<string, unknown>>) {
  const number = (key: string): number | undefined => given[key] as number | undefined
  const text = (key: string): string | undefined => given[key] as string | undefined
  return {
    memory: number('memory'),
    memorySwap: number('memorySwap'),
    memoryReservation: number('memoryReservation'),
    cpus: number('cpus'),
    cpuShares: number('cpuShares'),
    cpuPeriod: number('cpuPeriod'),
    cpuQuota: number('cpuQuota'),
    cpusetCpus: text('cpusetCpus'),
    cpusetMems: text('cpusetMems'),
    pidsLimit: number('pidsLimit'),
    blkioWeight: number('blkioWeight'),
  }
}

/** Combinations of options that cannot both be meant. */
function conflicts(options: RunOptions): void {
  const bad = (reason: string): Fault => new Fault('INVALID_ARGUMENT', reason)
  const { network = 'bridge', restart } = options
  const own = !/^(none|host|container:|ns:)/.test(network)
  if (options.remove && restart.policy !== 'no') {
    throw bad('options --rm and --restart exclude each other')
  }
  if (options.cpus !== undefined && (options.cpuQuota ?? options.cpuPeriod) !== undefined) {
    throw bad('options --cpus and --cpu-quota or --cpu-period exclude each other')
  }
  if (options.ports.length > 0 && !own) {
    throw bad(`option --publish needs a network of berth's: --network is ${network}`)
  }
  if (options.networkAliases.length > 0 && !own) {
    throw bad(`option --network-alias needs a network of berth's: --network is ${network}`)
  }
  if (/^container:/.test(network)) {
    const names: [string, boolean][] = [
      ['hostname', options.hostname !== undefined],
      ['dns', options.dns.length > 0],
      ['add-host', options.addHosts.length > 0],
    ]
    const name = names.find(([, asked]) => asked)?.[0]
    if (name) throw bad(`option --${name} excludes --network ${network}: the other's counts`)
  }
  if (options.uts === 'host' && options.hostname !== undefined) {
    throw bad('options --uts host and --hostname exclude each other: it would rename the host')
  }
}

/** As docker and podman take it: a relative path is below the hierarchy's root too. */
function parseCgroupParent(text: string): string {
  if (text !== '' && !text.split('/').includes('..'))
    return text.startsWith('/') ? text : `/${text}`
  throw new Fault('INVALID_ARGUMENT', `"${text}" is no path of a cgroup, such as /batch/night`)
}

function parseNameServer(text: string): string {
  if (isIP(text) !== 0) return text
  throw new Fault('INVALID_ARGUMENT', `"${text}" is no IP address of a name server`)
}

function parsePull(text: string): string {
  if (text === 'missing' || text === 'always' || text === 'never') return text
  throw new Fault('INVALID_ARGUMENT', `"${text}" is none of missing, always, never`)
}

function parseAddHost(text: string): string {
  parseHost(text)
  return text
}

function parseLogDriver(text: string): string {
  if (text === 'cri' || text === 'none') return text
  if (text === 'k8s-file') return 'cri'
  throw new Fault(
    'UNIMPLEMENTED',
    `"${text}" is not supported: cri (the kubelet's format) and none are`,
  )
}

function parseBoolean(text: string): boolean {
  if (text === 'true' || text === 'false') return text === 'true'
  throw new Fault('INVALID_ARGUMENT', `"${text}" is neither true nor false`)
}

function parseCapability(text: string): string {
  if (/^[a-z_0-9]+$/i.test(text)) return text.toUpperCase()
  throw new Fault('INVALID_ARGUMENT', `"${text}" is no capability, such as NET_ADMIN or ALL`)
}

function parseList(text: string): string {
  if (/^\d+(-\d+)?(,\d+(-\d+)?)*$/.test(text)) return text
  throw new Fault('INVALID_ARGUMENT', `"${text}" is no list such as 0-2,5`)
}

function parseEntrypoint(text: string): string[] {
  if (text === '') return []
  if (!text.startsWith('[')) return [text]
  try {
    const list: unknown = JSON.parse(text)
    if (Array.isArray(list) && list.every((part) => typeof part === 'string')) return list
  } catch {
    // Told below.
  }
  throw new Fault('INVALID_ARGUMENT', `"${text}" is no JSON list of texts`)
}

const HEALTH = 'berth has no health checks on one machine; kubelet brings its probes'
const REFUSED: Readonly<Record<string, string>> = {
  '-a, --attach': 'run is attached to all streams, or with -d to none',
  '--cdi-spec-dir': 'CDI devices come later',
  '--cgroup-conf': 'name the limits one by one',
  '--conmon-pidfile': 'it is in `berth inspect`',
  '--cpu-rt-period': 'cgroup v2 has no realtime limits',
  '--cpu-rt-runtime': 'cgroup v2 has no realtime limits',
  '--device-cgroup-rule': 'name the devices with --device',
  '--disable-content-trust': 'berth verifies digests always and signatures not yet',
  '--expose': 'ports are not closed between containers; publish one with -p',
  '--gidmap': 'take --userns UID:GID:SIZE',
  '--gpus': 'name the devices with --device',
  '--health-cmd': HEALTH,
  '--health-interval': HEALTH,
  '--health-retries': HEALTH,
  '--health-start-interval': HEALTH,
  '--health-start-period': HEALTH,
  '--health-timeout': HEALTH,
  '--init-path': "--init runs berth's own",
  '--ip': "a fixed address is a matter of the network's configuration",
  '--ip6': "a fixed address is a matter of the network's configuration",
  '--isolation': 'it is for Windows',
  '--kernel-memory': 'cgroup v2 has no such limit; --memory includes what the kernel takes for it',
  '--link': 'put the containers into one network namespace with --network container:ID',
  '--link-local-ip': "a fixed address is a matter of the network's configuration",
  '--log-opt': 'the log driver has no options',
  '--mac-address': "a fixed address is a matter of the network's configuration",
  '--memory-swappiness': 'cgroup v2 has no such setting',
  '--oom-kill-disable': 'cgroup v2 cannot do it',
  '--pidfile': 'it is in `berth inspect`',
  '--pod': 'pods are made through the CRI',
  '--preserve-fds': 'a container gets no file descriptor but its stdio',
  '-P, --publish-all': 'name the ports with -p',
  '--replace': 'remove the other container first (berth rm -f)',
  '--requires': 'start the containers in order',
  '--rootfs': 'import the tree as an image (berth import)',
  '--runtime': 'berth is the runtime',
  '--sdnotify': 'run it as a service of the init system',
  '--secret': 'bind-mount a file with --mount type=bind,ro',
  '--storage-opt': 'a limit for the writable layer comes later',
  '--subgidname': 'take --userns auto',
  '--subuidname': 'take --userns auto',
  '--systemd': 'give it what it needs with --tmpfs and --cap-add',
  '--timeout': 'use timeout(1)',
  '--tz': 'set TZ with -e',
  '--uidmap': 'take --userns UID:GID:SIZE',
  '--use-api-socket': 'berth has no daemon with such a socket',
  '--volume-driver': 'volumes are directories of this machine',
  '--volumes-from': 'name the volumes with -v',
}
