/**
 * What test/cri/reboot.test.ts runs in a machine whose disk outlives it: `before` makes pods and cuts the power while more are being made, `after` is
 * the next boot. Each prints one line of JSON behind a mark.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import {
  CriDaemon,
  containerConfig,
  exited,
  failure,
  logLines,
  runContainer,
  runPod,
  statusOf,
} from './cri.ts'
import { eventually } from './eventually.ts'

export const MARK = 'result: '
const DISK = '/run/reboot-disk'
const LOGS = `${DISK}/logs`
const STORM_PODS = 4
/** Longer than a file system keeps names in memory, and shorter than it keeps what is in files: those of the storm are empty after the cut. */
const STORM_MS = 7000
const MIB = 2 ** 20
const FOREVER = ['probe', 'sleep', '1000']

/** Ids by what the pods and containers were when the power went. */
export interface Before {
  readonly ready: string
  readonly stopped: string
  readonly running: string
  readonly limited: string
  readonly exited: string
  readonly killed: string
  readonly created: string
}

export interface Seen {
  readonly state: string
  readonly exitCode: number
  readonly reason: string
  readonly message: string
  readonly logPath: string
}

export interface After {
  readonly bootId: string
  readonly pods: Record<string, string>
  readonly containers: Record<string, Seen>
  /** Of the container that had limits. */
  readonly memoryLimit: string
  readonly log: readonly string[]
  readonly damage: readonly string[]
  /** Records whose content has not reached the disk. */
  readonly cutOff: number
  /** What a start in a pod of the boot before was answered. */
  readonly refusal: string
  /** Pods and containers that are left when every pod was removed, and what is left of them on the disk. */
  readonly left: readonly string[]
  /** The next attempt of a pod, and its container. */
  readonly again: { readonly pod: string; readonly output: readonly string[] }
}

function tell(value: unknown): void {
  process.stdout.write(`${MARK}${JSON.stringify(value)}\n`)
}

async function openDaemon(): Promise<CriDaemon> {
  mkdirSync(DISK)
  execFileSync('mount', ['/dev/ubda', DISK])
  mkdirSync(LOGS, { recursive: true })
  process.env['BERTH_TEST_ROOT'] = `${DISK}/root`
  return new CriDaemon('', 'refuse')
}

const named = (name: string, attempt = 0) => ({
  metadata: { name, uid: `uid-${name}`, namespace: 'test', attempt },
  logDirectory: `${LOGS}/${name}`,
})

async function before(): Promise<void> {
  const daemon = await openDaemon()
  await daemon.loadHello()
  await daemon.start()
  const pod = await runPod(daemon, named('ready'))
  const stopped = await runPod(daemon, named('stopped'))
  const limits = (mib: number) => ({
    linux: {
      securityContext: { namespaceOptions: { network: 'NODE', pid: 'CONTAINER', ipc: 'POD' } },
      resources: {
        memoryLimitInBytes: String(mib * MIB),
        memorySwapLimitInBytes: String(mib * MIB),
      },
    } as const,
  })
  const running = await runContainer(daemon, pod, ['probe', 'trap', '1000'])
  const limited = await runContainer(daemon, pod, FOREVER, limits(64))
  const ended = await runContainer(daemon, pod, ['probe', 'exit', '7'])
  const killed = await runContainer(daemon, pod, ['probe', 'memory', String(200 * MIB)], limits(64))
  const { containerId: created } = await daemon.call('CreateContainer', {
    podSandboxId: pod.id,
    config: containerConfig(FOREVER),
  })
  await runContainer(daemon, stopped, FOREVER)
  await daemon.call('StopPodSandbox', { podSandboxId: stopped.id })
  await exited(daemon, ended)
  await exited(daemon, killed)
  const { logPath } = await statusOf(daemon, running)
  await eventually('its first line', () => logLines(logPath).includes('ready'))
  // All this is old when the power goes.
  execFileSync('sync')
  await daemon.call('UpdateContainerResources', {
    containerId: limited,
    linux: { memoryLimitInBytes: String(96 * MIB), memorySwapLimitInBytes: String(96 * MIB) },
  })
  tell({
    ready: pod.id,
    stopped: stopped.id,
    running,
    limited,
    exited: ended,
    killed,
    created,
  } satisfies Before)
  for (let i = 0; i < STORM_PODS; i++) void storm(daemon, i)
  await delay(STORM_MS)
  // Nothing is written to the disk any more that is in memory only.
  writeFileSync('/proc/sysrq-trigger', 'o')
  await delay(60_000)
}

/** Pods that come and go until the power does. */
async function storm(daemon: CriDaemon, number: number): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    const pod = await runPod(daemon, named(`storm-${number}`, attempt))
    await runContainer(daemon, pod, FOREVER)
    if (attempt % 2 === 0) await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
  }
}

async function after(known: Before): Promise<void> {
  const daemon = await openDaemon()
  const cutOff = emptyRecords()
  await daemon.start()
  const { items } = await daemon.call('ListPodSandbox')
  const { containers } = await daemon.call('ListContainers')
  const statuses = await Promise.all(containers.map(({ id }) => statusOf(daemon, id)))
  const limited = statuses.find(({ id }) => id === known.limited)
  const runningLog = statuses.find(({ id }) => id === known.running)?.logPath ?? ''
  const { status } = await daemon.call('Status')
  const refusal = await failure(daemon.call('StartContainer', { containerId: known.created }))
  const seen = {
    bootId: readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim(),
    pods: Object.fromEntries(items.map(({ id, state }) => [id, state])),
    containers: Object.fromEntries(
      statuses.map(({ id, state, exitCode, reason, message, logPath }) => [
        id,
        { state, exitCode, reason, message, logPath },
      ]),
    ),
    memoryLimit: limited?.resources?.linux?.memoryLimitInBytes ?? '',
    log: logLines(runningLog),
    damage: [
      ...(status?.conditions ?? [])
        .filter((each) => !each.status && each.type !== 'NetworkReady')
        .map((each) => each.message),
      ...quarantined(),
    ],
    cutOff,
    refusal: refusal.text,
  }
  const again = await runPod(daemon, named('ready', 1))
  const id = await runContainer(daemon, again, ['probe', 'echo', 'again'])
  const { logPath } = await exited(daemon, id)
  const output = logLines(logPath)
  const { status: state } = await daemon.call('PodSandboxStatus', { podSandboxId: again.id })
  for (const each of [...items, again])
    await daemon.call('RemovePodSandbox', { podSandboxId: each.id })
  const left = [
    ...(await daemon.call('ListPodSandbox')).items,
    ...(await daemon.call('ListContainers')).containers,
  ].map((each) => each.id)
  await daemon.end()
  tell({
    ...seen,
    left: [...left, ...readdirSync(`${DISK}/root/pods`)],
    again: { pod: state?.state ?? '', output },
  } satisfies After)
}

function emptyRecords(): number {
  const pods = `${DISK}/root/pods`
  return readdirSync(pods, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('/record.json'))
    .filter((name) => statSync(join(pods, name)).size === 0).length
}

function quarantined(): string[] {
  const directory = `${DISK}/root/quarantine`
  return existsSync(directory) ? readdirSync(directory) : []
}

if (process.argv[2] === 'before') await before()
if (process.argv[2] === 'after') await after(JSON.parse(process.argv[3] ?? '') as Before)
