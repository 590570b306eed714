import { createHash } from 'node:crypto'
import { openSync } from 'node:fs'
import { describe, Fault, isErrno } from '../base/fault.ts'
import { removeAbandoned } from '../engine/builder.ts'
import {
  collectIfNoted,
  holdImages,
  imageToRun,
  openImages,
  tellOfImage,
} from '../engine/images.ts'
import type { Engine } from '../engine/open.ts'
import type { Progress } from '../engine/types.ts'
import { composeImage, layersOf } from '../image/compose.ts'
import { inspectImage } from '../image/inspect.ts'
import { type Loaded, tagName } from '../image/load.ts'
import { hostPlatform, parsePlatform } from '../image/platform.ts'
import { O_DIRECTORY, O_RDONLY } from '../kernel/constants.ts'
import { Fd } from '../kernel/fd.ts'
import { readFileInside } from '../kernel/inside.ts'
import { overlayMount } from '../kernel/mount-api.ts'
import type { Platform } from '../spec/image.ts'
import { NOTHING_IGNORED, parseIgnore } from './ignore.ts'
import { DOCKERFILE_BYTES_MAX, type Instruction, parseDockerfile, refused } from './parse.ts'
import { argDefaults, type BuildPlan, planStages, type StagePlan, stageBefore } from './plan.ts'
import type { Source } from './source.ts'
import { dateOf, Stage, type StageContext } from './stage.ts'
import { expandWord } from './words.ts'

/** The argument that everything made by the build is dated by (reproducible-builds.org). */
export const EPOCH = 'SOURCE_DATE_EPOCH'

export interface BuildOptions {
  /** A directory of this host. */
  readonly context: string
  /** The Dockerfile's text, where it is not a file of the context. */
  readonly dockerfile: string | undefined
  /** Its path in the context; undefined: Dockerfile, or Containerfile. */
  readonly file: string | undefined
  readonly names: readonly string[]
  readonly target: string | undefined
  readonly platform: string | undefined
  readonly buildArgs: ReadonlyMap<string, string>
  readonly labels: Readonly<Record<string, string>>
  readonly pull: boolean
  readonly noCache: boolean
  readonly network: string | undefined
  readonly addHosts: readonly string[]
  /** SOURCE_DATE_EPOCH, in nanoseconds. */
  readonly epochNs: bigint | undefined
  readonly output: StageContext['options']['output']
  readonly report: (line: string) => void
  readonly progress?: Progress | undefined
  readonly signal?: AbortSignal | undefined
}

/** Makes an image as a Dockerfile says. What its steps made is kept for the next build of the same (engine/build-cache.ts). */
export async function buildImage(engine: Engine, options: BuildOptions): Promise<Loaded> {
  options.names.forEach(tagName)
  using context = openContext(options.context)
  const file = dockerfileOf(context, options)
  const plan = planStages(parseDockerfile(file.text))
  const ignores = ignoreOf(context, file.path)
  await removeAbandoned(engine)
  let made: Loaded
  {
    // Neither a base image nor a layer goes while they are built on.
    using _hold = await holdImages(engine)
    const what = 'the build context'
    made = await new Build(engine, plan, options, {
      rootFd: context.number,
      what,
      ignores,
      keepsOwners: false,
    }).run()
  }
  tellOfImage(engine, 'build', made.id, made.names[0] ?? made.id)
  await collectIfNoted(engine)
  return made
}

function openContext(path: string): Fd {
  try {
    return new Fd(openSync(path, O_RDONLY | O_DIRECTORY))
  } catch (error) {
    if (!isErrno(error, 'ENOENT', 'ENOTDIR')) throw error
    throw new Fault('NOT_FOUND', `there is no directory ${path} to build from`, { cause: error })
  }
}

function dockerfileOf(context: Fd, options: BuildOptions): { text: string; path: string } {
  const { dockerfile, file } = options
  if (dockerfile !== undefined) return { text: dockerfile, path: '' }
  const candidates = file === undefined ? ['Dockerfile', 'Containerfile'] : [file]
  for (const path of candidates) {
    const bytes = readFileInside(context.number, path, DOCKERFILE_BYTES_MAX)
    if (bytes) return { text: bytes.toString('utf8'), path }
  }
  throw new Fault('NOT_FOUND', `there is no ${candidates.join(' and no ')} in ${options.context}`)
}

/** The Dockerfile's own .dockerignore, or the context's. */
function ignoreOf(context: Fd, dockerfile: string) {
  const own = dockerfile === '' ? [] : [`${dockerfile}.dockerignore`]
  for (const path of [...own, '.dockerignore']) {
    const bytes = readFileInside(context.number, path, DOCKERFILE_BYTES_MAX)
    if (bytes) return parseIgnore(bytes.toString('utf8'))
  }
  return NOTHING_IGNORED
}

class Build {
  readonly #engine: Engine
  readonly #plan: BuildPlan
  readonly #options: BuildOptions
  readonly #context: Source
  readonly #stages = new Map<number, Stage>()
  readonly #used = new Set<string>()
  readonly #globals: ReadonlyMap<string, string>

  constructor(engine: Engine, plan: BuildPlan, options: BuildOptions, context: Source) {
    this.#engine = engine
    this.#plan = plan
    this.#options = options
    this.#context = context
    this.#globals = globalsOf(plan, options, this.#used)
  }

  async run(): Promise<Loaded> {
    const { labels, names, buildArgs } = this.#options
    const { state } = await this.#stage(this.#target())
    const unused = [...buildArgs.keys()].filter((name) => !this.#used.has(name) && name !== EPOCH)
    if (unused.length > 0) this.#engine.warn(`no ARG takes --build-arg ${unused.join(', ')}`)
    const config =
      Object.keys(labels).length === 0
        ? state.config
        : { ...state.config, Labels: { ...state.config.Labels, ...labels } }
    const { created, author, platform, layers, history } = state
    return composeImage(openImages(this.#engine), {
      config: {
        created,
        ...(author === undefined ? {} : { author }),
        ...platform,
        config,
        rootfs: { type: 'layers', diff_ids: layers.map(({ diffId }) => diffId) },
        history,
      },
      layers,
      names,
    })
  }

  #target(): StagePlan {
    const { stages } = this.#plan
    const { target } = this.#options
    const found =
      target === undefined ? stages.at(-1) : stageBefore(this.#plan, target, stages.length)
    if (found) return found
    const names = stages.map(({ name, index }) => name ?? String(index)).join(', ')
    throw new Fault('NOT_FOUND', `the Dockerfile has no stage "${target}"; it has ${names}`)
  }

  /** A stage, made now where it is the first to need it. */
  async #stage(plan: StagePlan): Promise<Stage> {
    const known = this.#stages.get(plan.index)
    if (known) return known
    const stage = new Stage(await this.#base(plan), this.#stageContext(plan))
    await stage.run(plan.steps)
    this.#stages.set(plan.index, stage)
    return stage
  }

  async #base(plan: StagePlan): Promise<Stage['state']> {
    const expand = (word: string): string =>
      expandWord(word, (name) => this.#globals.get(name), this.#plan.escaper)
    const base = expand(plan.base)
    const asked = plan.platform === undefined ? this.#options.platform : expand(plan.platform)
    const empty = {
      author: undefined,
      created: dateOf(this.#options.epochNs),
      history: [],
      layers: [],
    }
    if (base === '') throw refused(plan.line, `FROM ${plan.base} names nothing`)
    if (base === 'scratch') {
      const platform = asked === undefined || asked === '' ? hostPlatform() : parsePlatform(asked)
      const key = digest(`scratch ${JSON.stringify(platform)}`)
      return { ...empty, config: {}, platform, key, imageId: `sha256:${key}` }
    }
    const earlier = stageBefore(this.#plan, base, plan.index)
    if (earlier && !/^\d+$/.test(base)) {
      const { state } = await this.#stage(earlier)
      return { ...state, history: [...state.history], layers: [...state.layers] }
    }
    const { id } = await this.#image(base, asked || undefined, plan.line)
    const store = openImages(this.#engine)
    const { image, config } = inspectImage(store, id)
    return {
      ...empty,
      author: config.author,
      created: config.created ?? empty.created,
      config: config.config ?? {},
      platform: platformOf(config),
      history: [...(config.history ?? [])],
      layers: layersOf(store, image),
      key: digest(`image ${id}`),
      imageId: id,
    }
  }

  async #image(image: string, platform: string | undefined, line: number) {
    const { progress, signal } = this.#options
    const pull = this.#options.pull ? 'always' : 'missing'
    try {
      return await imageToRun(this.#engine, { image, platform, pull }, progress, signal)
    } catch (error) {
      signal?.throwIfAborted()
      if (!(error instanceof Fault)) throw error
      throw new Fault(error.code, `Dockerfile line ${line}: ${describe(error)}`)
    }
  }

  #stageContext(plan: StagePlan): StageContext {
    const { stages } = this.#plan
    const name = plan.name ?? (stages.length > 1 ? `stage ${plan.index + 1}` : '')
    const total = plan.steps.length
    const report = (step: Instruction, text: string, isCached: boolean): void => {
      const number = plan.steps.indexOf(step) + 1
      const place = `${name === '' ? '' : `${name} `}${number > 0 ? number : 'ONBUILD'}/${total}`
      this.#options.report(`[${place}] ${isCached ? 'CACHED ' : ''}${text}`)
    }
    const { signal } = this.#options
    return {
      engine: this.#engine,
      store: openImages(this.#engine),
      escaper: this.#plan.escaper,
      options: { ...this.#options, signal },
      globals: this.#globals,
      used: this.#used,
      report,
      open: (from, line) => this.#open(plan, from, line),
    }
  }

  /** What COPY --from means: a stage before this one, else an image. */
  async #open(
    plan: StagePlan,
    from: string | undefined,
    line: number,
  ): Promise<Source & Disposable> {
    if (from === undefined) return { ...this.#context, [Symbol.dispose]: () => undefined }
    const earlier = stageBefore(this.#plan, from, plan.index)
    const view = earlier
      ? await (await this.#stage(earlier)).view()
      : await this.#imageView(from, line)
    const what = earlier ? `stage ${from}` : `image ${from}`
    const how = { ignores: NOTHING_IGNORED, keepsOwners: true }
    return { rootFd: view.number, what, ...how, [Symbol.dispose]: () => view.close() }
  }

  async #imageView(name: string, line: number): Promise<Fd> {
    const { lower } = await this.#image(name, this.#options.platform, line)
    return overlayMount({ lower: lower.map((path) => `${this.#engine.root}/${path}`) })
  }
}

function platformOf(config: Platform): Platform {
  const { os, architecture, variant } = config
  return { os, architecture, ...(variant === undefined ? {} : { variant }) }
}

/** The ARGs before the first FROM, and BuildKit's arguments about platforms. */
function globalsOf(plan: BuildPlan, options: BuildOptions, used: Set<string>): Map<string, string> {
  const globals = new Map<string, string>()
  const target = options.platform === undefined ? hostPlatform() : parsePlatform(options.platform)
  for (const [prefix, platform] of [
    ['BUILD', hostPlatform()],
    ['TARGET', target],
  ] as const) {
    const { os, architecture, variant } = platform
    globals.set(`${prefix}PLATFORM`, [os, architecture, variant].filter(Boolean).join('/'))
    globals.set(`${prefix}OS`, os)
    globals.set(`${prefix}ARCH`, architecture)
    globals.set(`${prefix}VARIANT`, variant ?? '')
  }
  for (const step of plan.globals) {
    for (const [name, value] of argDefaults(step, plan.escaper, (each) => globals.get(each))) {
      used.add(name)
      const given = options.buildArgs.get(name) ?? value
      if (given !== undefined) globals.set(name, given)
    }
  }
  return globals
}

const digest = (text: string): string => createHash('sha256').update(text).digest('hex')
