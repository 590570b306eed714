import type { ImageConfig } from '../spec/image.ts'
import type { RunOptions } from './options.ts'

/** Where a berth keeps its things: any number of berths with different roots live side by side. */
export interface Roots {
  /** What survives a reboot; /var/lib/berth by default. */
  readonly root: string
  /** What does not; /run/berth by default. */
  readonly state: string
}

/** What is on disk about a container: ROOT/containers/ID/record.json. Written once, at create; replaced by rename and update. */
export interface ContainerRecord {
  readonly version: 1
  readonly id: string
  readonly name: string
  readonly createdNs: string
  /** The image as it was asked for. */
  readonly image: string
  readonly imageId: string
  /** Layers of the root, topmost first: diff ids and fix-up layers by their tree's path below ROOT. */
  readonly lower: readonly string[]
  /** The program and its arguments. */
  readonly command: readonly string[]
  readonly labels: Readonly<Record<string, string>>
  readonly options: RunOptions
  readonly stopSignal: number
  readonly stopTimeoutS: number
  readonly volumes: readonly {
    readonly name: string
    readonly anonymous: boolean
    readonly target: string
  }[]
  readonly imageConfig: ImageConfig['config']
  /** Of a step of a build: the lock that the build holds as long as it lives (builder.ts). */
  readonly builder?: string
}

/** created: never started. stopped is docker's "exited". stopping and removing are not states here: they are moments. */
export type ContainerState = 'created' | 'running' | 'paused' | 'stopped'

export interface ContainerStatus {
  readonly state: ContainerState
  /** Host pid of the first process; 0 when none. */
  readonly pid: number
  readonly monitorPid: number
  readonly startedNs: string
  readonly finishedNs: string
  readonly exitCode: number
  readonly oomKilled: boolean
  /** Why the last start failed, or what became of the monitor. */
  readonly error: string
  readonly restarts: number
}

export interface Container {
  readonly record: ContainerRecord
  readonly status: ContainerStatus
}

export interface ExitRecord {
  readonly id: string
  readonly code: number
  readonly signal: number
  readonly oomKilled: boolean
  readonly createdNs: string
  readonly startedNs: string
  readonly finishedNs: string
  readonly error: string
  readonly restarts: number
}

/** The end of one process; times are 0 where it never ran. */
export type ProcessExit = Pick<ExitRecord, 'id' | 'code' | 'signal' | 'startedNs' | 'finishedNs'> &
  Partial<Pick<ExitRecord, 'oomKilled' | 'error'>>

/** A client's end of a process's stdio: of run, attach or exec. */
export interface Session {
  /** Everything the process writes from now on, in order; ends with the process or at close(). Must be read: the process waits for a slow reader. */
  readonly output: AsyncIterable<{ readonly stream: 'stdout' | 'stderr'; readonly data: Buffer }>
  /** Resolves when the bytes are taken; rejects when the process or its stdin is gone. */
  write(data: Uint8Array): Promise<void>
  /** End of file for the process's stdin; output goes on. */
  closeInput(): void
  resize(rows: number, columns: number): void
  /** The end of the process. Rejects when the monitor was lost. */
  readonly exit: Promise<ProcessExit>
  /** Leaves; the process goes on. */
  close(): void
}

export interface ExecOptions {
  command: string[]
  interactive: boolean
  terminal: boolean
  detach: boolean
  env: string[]
  user?: string | undefined
  workdir?: string | undefined
  privileged: boolean
  rows: number
  columns: number
}

/** Limits of a running container to change; undefined leaves as is. The units of RunOptions. */
export type UpdateOptions = Partial<
  Pick<
    RunOptions,
    | 'memory'
    | 'memorySwap'
    | 'memoryReservation'
    | 'cpus'
    | 'cpuShares'
    | 'cpuPeriod'
    | 'cpuQuota'
    | 'cpusetCpus'
    | 'cpusetMems'
    | 'pidsLimit'
    | 'blkioWeight'
    | 'restart'
  >
>

export interface ContainerStats {
  readonly id: string
  readonly name: string
  readonly timeNs: string
  /** Total CPU time; undefined where the host gives no such figure. */
  readonly cpuNs: bigint | undefined
  /** CPU use since the previous sample in cores × 100; undefined in a first one. */
  readonly cpuPercent: number | undefined
  readonly memoryBytes: bigint | undefined
  /** The limit in force, or the host's memory. */
  readonly memoryLimitBytes: bigint
  readonly pids: bigint | undefined
  readonly networkReceivedBytes: bigint
  readonly networkSentBytes: bigint
  readonly blockReadBytes: bigint | undefined
  readonly blockWrittenBytes: bigint | undefined
}

export interface EngineEvent {
  readonly timeNs: string
  readonly type: 'container' | 'image' | 'volume'
  /** create, start, die, oom, stop, kill, pause, unpause, update, rename, exec, attach, copy, destroy; pull, load, tag, untag, delete … */
  readonly action: string
  readonly id: string
  readonly name: string
  readonly attributes: Readonly<Record<string, string>>
}

export interface Volume {
  readonly name: string
  readonly path: string
  readonly createdNs: string
  readonly labels: Readonly<Record<string, string>>
  readonly anonymous: boolean
}

/** Told of long work; the fields are the image store's. */
export type Progress = (event: {
  readonly id: string
  readonly phase: string
  readonly done: number
  readonly total: number
}) => void
