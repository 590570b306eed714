/**
 * Names, images and options into containers, as a docker user knows them. There is no daemon behind it: every function works on the
 * records below `root` and `state` and on the monitors it finds there, and may be called by any number of processes at once.
 * Operations on one container are serialised by its lock; nothing is locked globally.
 */
import type { Readable } from 'node:stream'
import type { RunOptions } from './options.ts'
import type {
  Container,
  ContainerRecord,
  ContainerStats,
  EngineEvent,
  ExecOptions,
  ExitRecord,
  Progress,
  Roots,
  Session,
  UpdateOptions,
  Volume,
} from './types.ts'

export type * from './options.ts'
export type * from './types.ts'

/** A berth at its roots. `warn` receives sentences for the user (a limit skipped, a network missing). */
export interface Engine extends Roots {
  readonly warn: (message: string) => void
}
export declare function openEngine(options: Roots & { warn: (message: string) => void }): Engine

/** `ref` is a name, an id or a unique prefix of one. NOT_FOUND or INVALID_ARGUMENT (ambiguous). */
export declare function findContainer(engine: Engine, ref: string): Promise<Container>
/** Pulls the image as `options.pull` says. */
export declare function createContainer(
  engine: Engine,
  options: RunOptions,
  progress?: Progress,
): Promise<ContainerRecord>
/** With `attach` the session holds all output from the first byte on. */
export declare function startContainer(
  engine: Engine,
  ref: string,
  attach?: { stdin: boolean; rows: number; columns: number },
): Promise<Session | undefined>
export declare function attachContainer(
  engine: Engine,
  ref: string,
  options: { stdin: boolean },
): Promise<Session>
/** With `detach` resolves to the pid when the program runs. */
export declare function execContainer(
  engine: Engine,
  ref: string,
  options: ExecOptions,
): Promise<Session | { pid: number }>
/** Stop signal, wait, SIGKILL. Already stopped is success. `timeoutS` -1 waits for ever. */
export declare function stopContainer(
  engine: Engine,
  ref: string,
  options: { timeoutS?: number; signal?: string },
): Promise<void>
export declare function killContainer(engine: Engine, ref: string, signal: string): Promise<void>
export declare function restartContainer(
  engine: Engine,
  ref: string,
  options: { timeoutS?: number },
): Promise<void>
export declare function removeContainer(
  engine: Engine,
  ref: string,
  options: { force: boolean; volumes: boolean },
): Promise<void>
export declare function renameContainer(engine: Engine, ref: string, name: string): Promise<void>
/** Resolves when the container is stopped, at once if it is. */
export declare function waitContainer(engine: Engine, ref: string): Promise<ExitRecord>
export declare function pauseContainer(engine: Engine, ref: string): Promise<void>
export declare function unpauseContainer(engine: Engine, ref: string): Promise<void>
export declare function updateContainer(
  engine: Engine,
  ref: string,
  options: UpdateOptions,
): Promise<void>
/** Newest first. Without `all` only running and paused ones. */
export declare function listContainers(
  engine: Engine,
  options: { all: boolean },
): Promise<Container[]>
/** docker-inspect-like document. */
export declare function inspectContainer(
  engine: Engine,
  ref: string,
): Promise<Record<string, unknown>>
/** One sample a container; `previous` (by id) gives the percentages. */
export declare function containerStats(
  engine: Engine,
  refs: readonly string[],
  previous?: ReadonlyMap<string, ContainerStats>,
): Promise<ContainerStats[]>
/** Processes of a container by host pid: like ps -ef. */
export declare function containerProcesses(
  engine: Engine,
  ref: string,
): Promise<
  {
    user: string
    pid: number
    ppid: number
    cpuPercent: number
    started: string
    tty: string
    time: string
    command: string
  }[]
>
/** The CRI-format log's path; undefined when the container's log driver keeps none. */
export declare function containerLog(
  engine: Engine,
  ref: string,
): Promise<{ path: string; terminal: boolean } | undefined>
/** A tar of one path of the container, running or not. `base` is the entry's name in it. */
export declare function copyFromContainer(
  engine: Engine,
  ref: string,
  path: string,
): Promise<{ base: string; kind: 'file' | 'directory' | 'other'; tar: Readable }>
/** Extracts a tar below a directory of the container; what exists and what is made is resolved inside its root. */
export declare function copyToContainer(
  engine: Engine,
  ref: string,
  path: string,
  tar: Readable,
  options: { archive: boolean },
): Promise<void>
/** What is at a path of the container; undefined for nothing. */
export declare function statInContainer(
  engine: Engine,
  ref: string,
  path: string,
): Promise<
  { kind: 'file' | 'directory' | 'other'; size: number; mode: number; mtimeNs: string } | undefined
>
export declare function diffContainer(
  engine: Engine,
  ref: string,
): Promise<{ kind: 'A' | 'C' | 'D'; path: string }[]>
/** Past events from `sinceNs` on, then new ones until `signal` aborts or `untilNs` is reached. */
export declare function engineEvents(
  engine: Engine,
  options: { sinceNs?: string; untilNs?: string; follow: boolean; signal: AbortSignal },
): AsyncIterable<EngineEvent>
export declare function engineInfo(engine: Engine): Promise<Record<string, unknown>>
/** Stopped containers, unused images (dangling, or all), unused volumes when asked, debris of killed commands. */
export declare function pruneEngine(
  engine: Engine,
  options: { containers: boolean; images: boolean; allImages: boolean; volumes: boolean },
): Promise<{ containers: string[]; images: string[]; volumes: string[]; reclaimedBytes: number }>

export declare function listVolumes(engine: Engine): Promise<Volume[]>
export declare function createVolume(
  engine: Engine,
  options: { name: string; labels: Record<string, string> },
): Promise<Volume>
export declare function removeVolume(
  engine: Engine,
  name: string,
  options: { force: boolean },
): Promise<void>

/** Image commands go to the image store (src/image) but for those that must know of containers. */
export declare function removeImage(
  engine: Engine,
  ref: string,
  options: { force: boolean },
): Promise<{ untagged: string[]; deleted: string[] }>
