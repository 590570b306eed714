import { createHash } from 'node:crypto'
import { posix, relative } from 'node:path'
import { describe, Fault } from '../base/fault.ts'
import { Undo } from '../base/undo.ts'
import { readCachedStep, writeCachedStep } from '../engine/build-cache.ts'
import type { RunnableImage } from '../engine/images.ts'
import type { Engine } from '../engine/open.ts'
import { accountIn } from '../engine/start.ts'
import type { ImageLayer } from '../image/compose.ts'
import type { ImageStore } from '../image/store.ts'
import type { Fd } from '../kernel/fd.ts'
import { overlayMount } from '../kernel/mount-api.ts'
import { prepareChain } from '../layer/chain.ts'
import type { Digest, ImageConfig, Platform } from '../spec/image.ts'
import { isArchive, unpackedArchive } from './archive.ts'
import { changedBy, command, envOf, type RunConfig } from './config.ts'
import { type CopyOptions, copyLayer, missingDirectories } from './copy.ts'
import {
  type Dockerfile,
  type Instruction,
  instruction,
  jsonTexts,
  refused,
  unsupported,
} from './parse.ts'
import { argDefaults } from './plan.ts'
import { runStep, type StepOptions } from './run.ts'
import { type Found, findSources, type Source, treeOf } from './source.ts'
import { expandWord, type Lookup, splitWords } from './words.ts'

/** A stage as far as it is made. */
export interface StageState {
  config: RunConfig
  platform: Platform
  author: string | undefined
  /** RFC 3339: of its newest layer. */
  created: string
  history: NonNullable<ImageConfig['history']>
  layers: ImageLayer[]
  /** Digest of all that has made it so far. */
  key: string
  /** The image it began with, for the record of containers. */
  readonly imageId: string
}

/** What a step gets from outside its stage. */
export interface StageContext {
  readonly engine: Engine
  readonly store: ImageStore
  readonly escaper: Dockerfile['escaper']
  readonly options: StepOptions & {
    readonly buildArgs: ReadonlyMap<string, string>
    readonly noCache: boolean
    /** SOURCE_DATE_EPOCH: no time of a layer or document is later. */
    readonly epochNs: bigint | undefined
  }
  /** ARGs before the first FROM, and those that every build has. */
  readonly globals: ReadonlyMap<string, string>
  readonly used: Set<string>
  /** A step begins, or was found in the cache. */
  readonly report: (step: Instruction, text: string, isCached: boolean) => void
  /** The context, or with a name that of a stage or image. */
  readonly open: (from: string | undefined, line: number) => Promise<Source & Disposable>
}

/** Arguments that may be given without an ARG, and that are no part of an image or of the cache's key. */
const PROXIES = ['HTTP_PROXY', 'HTTPS_PROXY', 'FTP_PROXY', 'NO_PROXY', 'ALL_PROXY'].flatMap(
  (name) => [name, name.toLowerCase()],
)

/** Makes a stage out of its instructions, one after the other. */
export class Stage {
  readonly state: StageState
  readonly #context: StageContext
  readonly #args = new Map<string, string>()
  #hasCommand = false

  constructor(state: StageState, context: StageContext) {
    this.state = state
    this.#context = context
  }

  async run(steps: readonly Instruction[]): Promise<void> {
    const { OnBuild = [], ...config } = this.state.config
    this.state.config = config
    const line = (steps[0]?.line ?? 2) - 1
    for (const text of OnBuild) await this.#step(instruction(text, line))
    for (const step of steps) await this.#step(step)
  }

  get #lookup(): Lookup {
    const env = envOf(this.state.config)
    return (name) => env.get(name) ?? this.#args.get(name)
  }

  #expand(word: string): string {
    return expandWord(word, this.#lookup, this.#context.escaper)
  }

  async #step(step: Instruction): Promise<void> {
    this.#context.options.signal?.throwIfAborted()
    try {
      await this.#apply(step)
    } catch (error) {
      // The line is told once.
      if (!(error instanceof Fault) || error.message.startsWith('Dockerfile line')) throw error
      const text = `Dockerfile line ${step.line}: ${describe(error)}`
      throw new Fault(error.code, text, error.exit === undefined ? {} : { exit: error.exit })
    }
  }

  async #apply(step: Instruction): Promise<void> {
    switch (step.keyword) {
      case 'RUN':
        return this.#runCommand(step)
      case 'COPY':
      case 'ADD':
        return this.#copy(step)
      case 'ARG':
        return this.#argument(step)
      case 'MAINTAINER':
        this.state.author = step.text
        return this.#note(step, `MAINTAINER ${step.text}`)
    }
    const { escaper } = this.#context
    const reading = { lookup: this.#lookup, escaper, hasCommand: this.#hasCommand }
    const config = changedBy(this.state.config, step, reading)
    if (!config) throw unsupported(step.line, `${step.keyword} is not supported`)
    if (step.keyword === 'CMD') this.#hasCommand = true
    this.state.config = config
    if (step.keyword === 'WORKDIR') return this.#directory(step, config.WorkingDir ?? '/')
    this.#note(step, `${step.keyword} ${step.text}`)
  }

  /** A step without a layer. */
  #note(step: Instruction, text: string): void {
    this.#context.report(step, text, false)
    this.#chain(text, JSON.stringify(this.state.config))
    this.#tell(text, true)
  }

  #chain(...parts: string[]): string {
    const hash = createHash('sha256')
    for (const part of [this.state.key, ...parts]) hash.update(`${part.length} ${part}`)
    this.state.key = hash.digest('hex')
    return this.state.key
  }

  #tell(text: string, isEmpty: boolean): void {
    this.state.history.push({
      created: this.state.created,
      created_by: text,
      ...(isEmpty ? { empty_layer: true } : {}),
    })
  }

  /**
   * A step whose layer is taken from the cache, or made. `key` is all it depends on besides what was before it, `isStill` whether that is so after the layer
   * was made.
   */
  async #layer(
    step: Instruction,
    text: string,
    key: readonly string[],
    make: () => Promise<ImageLayer | undefined>,
    isStill: () => Promise<boolean> = async () => true,
  ): Promise<void> {
    const { engine, store, options, report } = this.#context
    const name = this.#chain(text, ...key, String(options.epochNs))
    const cached = options.noCache ? undefined : readCachedStep(engine, name)
    if (cached && store.layers.has(cached.layer.diffId)) {
      report(step, text, true)
      this.#add(text, cached.layer, cached.created)
      return
    }
    report(step, text, false)
    const layer = await make()
    if (!layer) return this.#tell(text, true)
    const created = dateOf(options.epochNs)
    if (await isStill()) writeCachedStep(engine, name, { version: 1, layer, created })
    else {
      engine.warn(`what ${text} has copied was changed meanwhile: the step is not kept`)
      this.#chain(layer.diffId)
    }
    this.#add(text, layer, created)
  }

  #add(text: string, layer: ImageLayer, created: string): void {
    this.state.layers.push(layer)
    this.state.created = created
    this.#tell(text, false)
  }

  #time = (mtimeNs: bigint): bigint => {
    const { epochNs } = this.#context.options
    return epochNs !== undefined && mtimeNs > epochNs ? epochNs : mtimeNs
  }

  get #nowNs(): bigint {
    return this.#context.options.epochNs ?? BigInt(Date.now()) * 1_000_000n
  }

  // -- ARG --------------------------------------------------------------------------------------------------

  #argument(step: Instruction): void {
    const { options, globals, used, escaper } = this.#context
    for (const [name, value] of argDefaults(step, escaper, this.#lookup)) {
      const given = options.buildArgs.get(name) ?? value ?? globals.get(name)
      used.add(name)
      if (given !== undefined) this.#args.set(name, given)
    }
    this.#note(step, `ARG ${step.text}`)
  }

  // -- RUN --------------------------------------------------------------------------------------------------

  async #runCommand(step: Instruction): Promise<void> {
    const [flag] = step.flags
    if (flag) throw unsupported(step.line, `RUN --${flag.name} is not supported by berth`)
    const { engine, options, used } = this.#context
    const env = envOf(this.state.config)
    const args = [...this.#args].filter(([name]) => !env.has(name))
    const proxies = PROXIES.filter((name) => options.buildArgs.has(name) && !env.has(name))
    for (const name of proxies) used.add(name)
    const argv = command(this.state.config, step.text)
    const told = args.map(([name, value]) => `${name}=${value}`)
    const head = told.length > 0 ? `RUN |${told.length} ${told.join(' ')} ` : 'RUN '
    const extra = proxies.map((name) => `${name}=${options.buildArgs.get(name)}`)
    await this.#layer(step, `${head}${argv.join(' ')}`, [JSON.stringify(argv)], async () =>
      runStep(engine, await this.#image(), argv, {
        ...options,
        what: `RUN ${step.text}`,
        env: [...told, ...extra],
        time: this.#time,
      }),
    )
  }

  async #image(): Promise<RunnableImage> {
    const { engine } = this.#context
    // What RUN writes where a volume will be is part of the image.
    const { Volumes, ...config } = this.state.config
    const lower = await this.#lower()
    return {
      id: this.state.imageId,
      config: {
        ...this.state.platform,
        config,
        rootfs: { type: 'layers', diff_ids: this.state.layers.map(({ diffId }) => diffId) },
      },
      lower: lower.map((path) => relative(engine.root, path)),
    }
  }

  async #lower(): Promise<readonly string[]> {
    const diffIds: Digest[] = this.state.layers.map(({ diffId }) => diffId)
    return (await prepareChain(this.#context.store.layers, diffIds)).lower
  }

  /** The stage's root, read-only; closed by the caller. */
  async view(): Promise<Fd> {
    return overlayMount({ lower: await this.#lower() })
  }

  // -- WORKDIR ----------------------------------------------------------------------------------------------

  async #directory(step: Instruction, path: string): Promise<void> {
    const text = `WORKDIR ${path}`
    using view = await this.view()
    const entries = missingDirectories(
      { viewFd: view.number, nowNs: this.#nowNs, owner: undefined },
      path,
    )
    if (entries.length === 0) return this.#note(step, text)
    await this.#layer(step, text, [], () => this.#makeLayer(entries))
  }

  async #makeLayer(tar: Iterable<Buffer> | AsyncIterable<Buffer>): Promise<ImageLayer> {
    const { makeLayer } = await import('../image/compose.ts')
    const { signal } = this.#context.options
    return makeLayer(this.#context.store, toAsync(tar), signal ? { signal } : {})
  }

  // -- COPY and ADD -------------------------------------------------------------------------------------------

  async #copy(step: Instruction): Promise<void> {
    const asked = this.#copyArguments(step)
    using source = await this.#context.open(asked.from, step.line)
    using view = await this.view()
    const tree = treeOf(source.rootFd)
    try {
      const found = asked.sources.flatMap((path) => findSources(source, tree, path))
      if (found.length > 1 && !asked.isDirectory) {
        throw refused(
          step.line,
          `${step.keyword} of several sources needs a target that ends with a slash`,
        )
      }
      const options: Omit<CopyOptions, 'items'> = {
        viewFd: view.number,
        target: asked.target,
        isDirectory: asked.isDirectory,
        owner: asked.owner === undefined ? undefined : ownerIn(view.number, asked.owner),
        mode: asked.mode,
        time: this.#time,
        nowNs: this.#nowNs,
      }
      const items = found.map((each) => ({ source, found: each }))
      const archives: Found[] = []
      if (step.keyword === 'ADD') {
        for (const each of found) if (await isArchive(each)) archives.push(each)
      }
      const text = `${step.keyword} ${step.flags.map(({ name, value }) => `--${name}=${value} `).join('')}${step.text}`
      const content = await this.#contentOf({ ...options, items })
      const key = [content, String(archives.length), asked.target]
      const make = () =>
        archives.length === 0
          ? this.#makeLayer(copyLayer({ ...options, items }))
          : this.#addArchives(items, archives, options)
      // Somebody may write to the context while it is read; of stages and images nobody does.
      const isStill = async () =>
        asked.from !== undefined || (await this.#contentOf({ ...options, items })) === content
      await this.#layer(step, text, key, make, isStill)
    } finally {
      tree.close()
    }
  }

  /** Digest of what is there, not of when it was put there. */
  async #contentOf(options: CopyOptions): Promise<string> {
    const content = createHash('sha256')
    const { signal } = this.#context.options
    for await (const chunk of copyLayer({ ...options, time: () => 0n, nowNs: 0n })) {
      signal?.throwIfAborted()
      content.update(chunk)
    }
    return content.digest('hex')
  }

  /** Archives are unpacked beside and copied from there. */
  async #addArchives(
    items: CopyOptions['items'],
    archives: readonly Found[],
    options: Omit<CopyOptions, 'items'>,
  ): Promise<ImageLayer> {
    const { engine, store } = this.#context
    await using open = new Undo((message, error) =>
      engine.warn(`${message}: ${(error as Error).message}`),
    )
    const all: { source: Source; found: Found }[] = []
    for (const item of items) {
      if (!archives.includes(item.found)) {
        all.push(item)
        continue
      }
      const unpacked = await unpackedArchive(store.layers, item.found)
      open.push('the unpacked archive', () => unpacked[Symbol.asyncDispose]())
      const tree = treeOf(unpacked.source.rootFd)
      open.push('its directories', () => tree.close())
      for (const found of findSources(unpacked.source, tree, '.'))
        all.push({ source: unpacked.source, found })
    }
    return await this.#makeLayer(copyLayer({ ...options, items: all, isDirectory: true }))
  }

  #copyArguments(step: Instruction) {
    const { keyword, line, text } = step
    let from: string | undefined
    let owner: string | undefined
    let mode: number | undefined
    for (const { name, value } of step.flags) {
      if (name === 'from' && keyword === 'COPY' && value) from = value
      else if (name === 'chown' && value) owner = this.#expand(value)
      else if (name === 'chmod' && value) {
        const wanted = this.#expand(value)
        if (!/^[0-7]{1,4}$/.test(wanted)) {
          throw unsupported(
            line,
            `${keyword} --chmod=${wanted}: berth knows octal modes, such as 755`,
          )
        }
        mode = Number.parseInt(wanted, 8)
      } else throw unsupported(line, `${keyword} --${name} is not supported by berth`)
    }
    const words = (jsonTexts(text) ?? splitWords(text, this.#context.escaper)).map((word) =>
      this.#expand(word),
    )
    const target = words.pop() ?? ''
    if (words.length === 0 || target === '') {
      throw refused(line, `${keyword} needs a source and a target`)
    }
    for (const word of words) {
      if (keyword === 'ADD' && /^(https?|git|ssh|ftp):\/\/|^git@|\.git(#|$)/i.test(word)) {
        throw unsupported(
          line,
          `ADD of an address (${word}) is not supported by berth: fetch it in a RUN, or before`,
        )
      }
    }
    const isDirectory = /(^|\/)\.{0,2}$/.test(target)
    const base = this.state.config.WorkingDir || '/'
    return {
      from,
      owner,
      mode,
      sources: words,
      isDirectory,
      target: posix.resolve('/', base, target),
    }
  }
}

/** What --chown names, by the account files of the stage: a number alone is user and group (BuildKit's rule). */
function ownerIn(rootFd: number, owner: string): { uid: number; gid: number } {
  const both = /^\d+$/.test(owner) ? `${owner}:${owner}` : owner
  const { uid, gid } = accountIn(rootFd, both, [])
  return { uid, gid }
}

export function dateOf(epochNs: bigint | undefined): string {
  return new Date(epochNs === undefined ? Date.now() : Number(epochNs / 1_000_000n)).toISOString()
}

async function* toAsync<T>(source: Iterable<T> | AsyncIterable<T>): AsyncGenerator<T> {
  yield* source
}
