import { composeImage, layersOf, makeLayer } from '../image/compose.ts'
import { inspectImage } from '../image/inspect.ts'
import type { Loaded } from '../image/load.ts'
import { packUpper } from '../layer/index.ts'
import type { Digest, ImageConfig } from '../spec/image.ts'
import { changesOf } from './changes.ts'
import { emit } from './events.ts'
import { findContainer } from './find.ts'
import { whileFrozen } from './freeze.ts'
import { collectIfNoted, holdImages, openImages, tellOfImage } from './images.ts'
import type { Engine } from './open.ts'
import { lockContainer, readConfig } from './record.ts'
import { about } from './start.ts'
import type { ContainerRecord, Progress } from './types.ts'

export interface CommitOptions {
  readonly name?: string | undefined
  readonly author?: string | undefined
  readonly message?: string | undefined
  /** Of the new image's configuration: what --change says. */
  readonly change: (config: RunConfig) => RunConfig
  /** Freezes a running container while its files are read. */
  readonly pause: boolean
  readonly progress?: Progress | undefined
  readonly signal?: AbortSignal | undefined
}

type RunConfig = NonNullable<ImageConfig['config']>

/** Makes an image of a container: its image, with what it has changed as one more layer. The container is left as it was. */
export async function commitContainer(
  engine: Engine,
  ref: string,
  options: CommitOptions,
): Promise<Loaded> {
  const container = await findContainer(engine, ref)
  const { id } = container.record
  const loaded = await committed(engine, id, options)
  emit(engine, about(container.record, 'commit', { imageId: loaded.id }))
  tellOfImage(engine, 'commit', loaded.id, loaded.names[0] ?? loaded.id)
  await collectIfNoted(engine)
  return loaded
}

async function committed(engine: Engine, id: string, options: CommitOptions): Promise<Loaded> {
  const store = openImages(engine)
  // It is not removed, started or paused by others meanwhile.
  using _lock = await lockContainer(engine, id)
  using _hold = await holdImages(engine)
  const container = await findContainer(engine, id)
  const { record } = container
  const { image, config } = inspectImage(store, record.imageId as Digest)
  const changed = options.change(ranWith(config.config ?? {}, record, engine))
  const below = layersOf(store, image)
  const pack = () => makeLayer(store, packUpper(changesOf(engine, record)), options)
  const isRunning = container.status.state === 'running'
  const layer = await (options.pause && isRunning ? whileFrozen(engine, id, pack) : pack())
  const created = new Date().toISOString()
  const layers = [...below, layer]
  const step = {
    created,
    ...(options.author === undefined ? {} : { author: options.author }),
    created_by: record.command.join(' '),
    ...(options.message === undefined ? {} : { comment: options.message }),
  }
  return composeImage(store, {
    config: {
      ...config,
      created,
      ...(options.author === undefined ? {} : { author: options.author }),
      config: changed,
      rootfs: { type: 'layers', diff_ids: layers.map(({ diffId }) => diffId) },
      history: [...(config.history ?? []), step],
    },
    layers,
    names: options.name === undefined ? [] : [options.name],
  })
}

/** What the container was run with becomes the image's default, as with docker. */
function ranWith(config: RunConfig, record: ContainerRecord, engine: Engine): RunConfig {
  const { options } = record
  const env = new Map((config.Env ?? []).map((entry) => [entry.split('=', 1)[0] ?? '', entry]))
  const given = readConfig(engine, record.id).process?.env ?? []
  for (const entry of options.env) {
    const name = entry.split('=', 1)[0] ?? ''
    // A name alone was the caller's value at create.
    const full = entry.includes('=') ? entry : given.find((each) => each.startsWith(`${name}=`))
    if (full !== undefined) env.set(name, full)
  }
  const changed: RunConfig = { ...config, Env: [...env.values()] }
  if (options.entrypoint !== undefined) {
    changed.Entrypoint = options.entrypoint
    delete changed.Cmd
  }
  if (options.command.length > 0) changed.Cmd = options.command
  if (options.user !== undefined) changed.User = options.user
  if (options.workdir !== undefined) changed.WorkingDir = options.workdir
  if (options.stopSignal !== undefined) changed.StopSignal = options.stopSignal
  if (Object.keys(options.labels).length > 0)
    changed.Labels = { ...config.Labels, ...options.labels }
  const ports = options.ports.map(({ containerPort, protocol }) => `${containerPort}/${protocol}`)
  if (ports.length > 0) {
    changed.ExposedPorts = {
      ...config.ExposedPorts,
      ...Object.fromEntries(ports.map((port) => [port, {}])),
    }
  }
  return changed
}
