import { Fault } from '../base/fault.ts'
import { beginBuilder } from '../engine/builder.ts'
import { changesOf } from '../engine/changes.ts'
import { createContainer } from '../engine/create.ts'
import { openImages, type RunnableImage } from '../engine/images.ts'
import type { Engine } from '../engine/open.ts'
import type { RunOptions } from '../engine/options.ts'
import { removeContainer } from '../engine/remove.ts'
import { startContainer } from '../engine/start.ts'
import { killContainer } from '../engine/stop.ts'
import { type ImageLayer, makeLayer } from '../image/compose.ts'
import type { Attributes } from '../layer/index.ts'
import { packUpper } from '../layer/index.ts'

/** What all steps of a build may use of the host. */
export interface StepOptions {
  /** As of `berth run`. */
  readonly network: string | undefined
  readonly addHosts: readonly string[]
  readonly output: (data: Buffer, stream: 'stdout' | 'stderr') => Promise<void>
  readonly signal: AbortSignal | undefined
}

/** Every step has the same name of the host, so that none of it gets into the image. */
const HOSTNAME = 'build'

/** Runs a command in a container of the stage and gives what it has changed as a layer. The exit code is told in the fault. */
export async function runStep(
  engine: Engine,
  image: RunnableImage,
  command: readonly string[],
  options: StepOptions & {
    readonly what: string
    readonly env: readonly string[]
    readonly time: (mtimeNs: bigint) => bigint
  },
): Promise<ImageLayer> {
  const { signal } = options
  signal?.throwIfAborted()
  const asked = runOptions(command, options)
  using builder = await beginBuilder(engine)
  const { id } = await createContainer(engine, asked, undefined, { image, builder: builder.name })
  const kill = (): void => {
    // It may have ended by itself just now.
    killContainer(engine, id, 'KILL').catch(() => {})
  }
  signal?.addEventListener('abort', kill)
  try {
    const session = await startContainer(engine, id, { stdin: false, rows: 0, columns: 0 })
    if (!session) throw new Fault('INTERNAL', `container ${id} was started without its stdio`)
    // A failure is told where it is waited for.
    session.exit.catch(() => {})
    if (signal?.aborted) kill()
    for await (const { stream, data } of session.output) await options.output(data, stream)
    const { code } = await session.exit
    signal?.throwIfAborted()
    if (code !== 0) {
      throw new Fault('FAILED_PRECONDITION', `${options.what} ended with exit code ${code}`, {
        exit: 1,
      })
    }
    const record = { id, lower: image.lower }
    const alter = (_path: string, is: Attributes): Attributes => ({
      ...is,
      mtimeNs: options.time(is.mtimeNs),
    })
    const changes = { ...changesOf(engine, record), alter }
    return await makeLayer(openImages(engine), packUpper(changes), signal ? { signal } : {})
  } finally {
    signal?.removeEventListener('abort', kill)
    await removeContainer(engine, id, { force: true, volumes: true })
  }
}

function runOptions(
  command: readonly string[],
  options: StepOptions & { readonly env: readonly string[] },
): RunOptions {
  return {
    image: 'a step of a build',
    command: [...command],
    entrypoint: [],
    pull: 'never',
    remove: true,
    interactive: false,
    terminal: false,
    detach: false,
    reaper: false,
    env: [...options.env],
    groupAdd: [],
    hostname: options.network === 'host' ? undefined : HOSTNAME,
    labels: { 'berth.build': 'step' },
    annotations: {},
    readOnly: false,
    mounts: [],
    devices: [],
    privileged: false,
    capAdd: [],
    capDrop: [],
    noNewPrivileges: false,
    mask: [],
    unmask: [],
    sysctls: {},
    ulimits: [],
    blkioWeightDevice: [],
    deviceReadBps: [],
    deviceWriteBps: [],
    deviceReadIops: [],
    deviceWriteIops: [],
    network: options.network,
    networkAliases: [],
    dns: [],
    dnsSearch: [],
    dnsOptions: [],
    addHosts: [...options.addHosts],
    ports: [],
    restart: { policy: 'no', maximumRetries: 0 },
    logDriver: 'none',
  }
}
