/** Images for the bench, made of the machine's own /usr: the same machine gives the same bytes. */
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  createReadStream,
  createWriteStream,
  existsSync,
  lstatSync,
  mkdirSync,
  openAsBlob,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { machineArchitecture } from '../rootfs/layout.ts'

export type Compression = 'gzip' | 'zstd'

interface Layer {
  readonly path: string
  readonly digest: string
  readonly size: number
  readonly diffId: string
}

/** An image in the registry. */
export interface BenchImage {
  readonly repository: string
  /** With all layers, and with the first half of them only. */
  readonly tags: { readonly all: string; readonly half: string }
  readonly layerBytes: number
  readonly blobs: readonly string[]
}

/** A few base layers are large and those above small, as in images people build. */
const WEIGHTS = [30, 20, 14, 11, 8, 6, 5, 4, 2]
const NINE_BYTES = 1.5e9
const ONE_BYTES = 1.4e9
const TINY_IMAGES = 20
const TINY_LAYERS = 50
/** One that is larger would be most of a layer. */
const FILE_BYTES_MAX = 48e6

const COMMANDS: Readonly<Record<Compression, readonly string[]>> = {
  gzip: ['gzip', '-6', '-n'],
  zstd: ['zstd', '-q', '-3', '-T1'],
}

interface Found {
  readonly path: string
  readonly bytes: number
}

/** All below /usr in the order of their names, directories before what is in them. */
function walk(directory: string, found: Found[] = []): Found[] {
  found.push({ path: directory, bytes: 0 })
  for (const name of readdirSync(directory).sort()) {
    const path = join(directory, name)
    const status = lstatSync(path)
    if (status.isDirectory()) walk(path, found)
    else if (status.isSymbolicLink()) found.push({ path, bytes: 0 })
    else if (status.isFile() && status.size <= FILE_BYTES_MAX)
      found.push({ path, bytes: status.size })
  }
  return found
}

/** Every so-manieth file, such that together they have about these bytes, cut in parts of these weights. */
function choose(found: readonly Found[], bytes: number, weights: readonly number[]): string[][] {
  const all = found.reduce((sum, { bytes }) => sum + bytes, 0)
  const share = Math.min(1, bytes / all)
  const sum = weights.reduce((a, b) => a + b, 0)
  const parts: string[][] = weights.map(() => [])
  let due = 0
  let done = 0
  let part = 0
  let limit = ((weights[0] ?? 0) / sum) * all * share
  for (const { path, bytes } of found) {
    due += share
    if (due < 1) continue
    due -= 1
    parts[part]?.push(path)
    done += bytes
    if (done >= limit && part + 1 < parts.length) {
      part++
      limit += ((weights[part] ?? 0) / sum) * all * share
    }
  }
  return parts
}

/** What is being made, by its path: two small parts may be the same. */
const making = new Map<string, Promise<Layer>>()

function layerOf(directory: string, paths: readonly string[], by: Compression): Promise<Layer> {
  const key = createHash('sha256').update(by).update(paths.join('\n')).digest('hex').slice(0, 32)
  const path = join(directory, key)
  const layer = making.get(path) ?? makeLayer(path, paths, by)
  making.set(path, layer)
  return layer
}

async function makeLayer(path: string, paths: readonly string[], by: Compression): Promise<Layer> {
  if (existsSync(`${path}.json`)) {
    return JSON.parse(readFileSync(`${path}.json`, 'utf8')) as Layer
  }
  writeFileSync(`${path}.list`, paths.map((p) => `${p.slice(1)}\0`).join(''))
  const tar = spawn(
    'tar',
    [
      ...['--create', '--directory=/', '--no-recursion', '--null', '--numeric-owner'],
      ...['--format=pax', '--pax-option=delete=atime,delete=ctime', '--mtime=@1700000000'],
      ...['--hard-dereference', `--files-from=${path}.list`],
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  )
  const [program = '', ...args] = COMMANDS[by]
  const packer = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] })
  const plain = createHash('sha256')
  tar.stdout.on('data', (chunk: Buffer) => plain.update(chunk))
  const packing = pipeline(tar.stdout, packer.stdin)
  await Promise.all([packing, pipeline(packer.stdout, createWriteStream(`${path}.tmp`))])
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(`${path}.tmp`)) hash.update(chunk as Buffer)
  renameSync(`${path}.tmp`, path)
  const layer: Layer = {
    path,
    digest: `sha256:${hash.digest('hex')}`,
    size: statSync(path).size,
    diffId: `sha256:${plain.digest('hex')}`,
  }
  writeFileSync(`${path}.json`, JSON.stringify(layer))
  return layer
}

async function put(registry: string, repository: string, digest: string, body: Blob | Buffer) {
  const base = `${registry}/v2/${repository}/blobs`
  if ((await fetch(`${base}/${digest}`, { method: 'HEAD' })).ok) return
  const { headers } = await fetch(`${base}/uploads/`, { method: 'POST' })
  const target = new URL(headers.get('location') ?? '', registry)
  target.searchParams.set('digest', digest)
  const type = { 'content-type': 'application/octet-stream' }
  const answer = await fetch(target, { method: 'PUT', body, headers: type })
  if (!answer.ok) throw new Error(`${target.pathname}: ${answer.status} ${await answer.text()}`)
}

const sha256 = (bytes: Buffer): string =>
  `sha256:${createHash('sha256').update(bytes).digest('hex')}`

async function pushImage(registry: string, repository: string, tag: string, layers: Layer[]) {
  for (const { path, digest } of layers) {
    await put(registry, repository, digest, await openAsBlob(path))
  }
  const config = Buffer.from(
    JSON.stringify({
      architecture: machineArchitecture(),
      os: 'linux',
      config: {},
      rootfs: { type: 'layers', diff_ids: layers.map(({ diffId }) => diffId) },
      history: layers.map(() => ({ created: '2023-11-14T22:13:20Z', created_by: 'bench' })),
    }),
  )
  await put(registry, repository, sha256(config), config)
  const by = tag.startsWith('zstd') ? 'zstd' : 'gzip'
  const type = 'application/vnd.oci.image.manifest.v1+json'
  const answer = await fetch(`${registry}/v2/${repository}/manifests/${tag}`, {
    method: 'PUT',
    headers: { 'content-type': type },
    body: JSON.stringify({
      schemaVersion: 2,
      mediaType: type,
      config: {
        mediaType: 'application/vnd.oci.image.config.v1+json',
        digest: sha256(config),
        size: config.length,
      },
      layers: layers.map(({ digest, size }) => ({
        mediaType: `application/vnd.oci.image.layer.v1.tar+${by}`,
        digest,
        size,
      })),
    }),
  })
  if (!answer.ok) throw new Error(`${repository}:${tag}: ${answer.status} ${await answer.text()}`)
}

async function push(registry: string, repository: string, by: Compression, layers: Layer[]) {
  const half = layers.slice(0, Math.ceil(layers.length / 2))
  await pushImage(registry, repository, by, layers)
  await pushImage(registry, repository, `${by}-half`, half)
  return {
    repository,
    tags: { all: by, half: `${by}-half` },
    layerBytes: layers.reduce((sum, { size }) => sum + size, 0),
    blobs: layers.map(({ path }) => path),
  }
}

export type Kind = 'nine' | 'one' | 'tiny'

/**
 * Makes the images of a kind and pushes them: `nine` layers of 1.5 GB, `one` large layer, many with `tiny` layers. `scale` shrinks
 * them all. What is in `directory` from an earlier call is used again.
 */
export async function makeImages(
  kind: Kind,
  by: Compression,
  options: { directory: string; registry: string; scale: number },
): Promise<BenchImage[]> {
  const { directory, registry, scale } = options
  mkdirSync(directory, { recursive: true })
  const found = walk('/usr')
  const layersOf = async (parts: string[][]): Promise<Layer[]> => {
    const layers: Layer[] = []
    // Each takes the next one that is left.
    const left = parts.entries()
    const make = async (): Promise<void> => {
      for (const [at, paths] of left) layers[at] = await layerOf(directory, paths, by)
    }
    await Promise.all(Array.from({ length: availableParallelism() }, make))
    return layers
  }
  if (kind === 'nine') {
    return [
      await push(registry, 'nine', by, await layersOf(choose(found, NINE_BYTES * scale, WEIGHTS))),
    ]
  }
  if (kind === 'one') {
    return [await push(registry, 'one', by, await layersOf(choose(found, ONE_BYTES * scale, [1])))]
  }
  const images = Math.max(1, Math.round(TINY_IMAGES * scale))
  const files = found.filter(({ bytes }) => bytes > 0 && bytes < 4096)
  const done: BenchImage[] = []
  for (let image = 0; image < images; image++) {
    const own = files.slice(image * TINY_LAYERS, (image + 1) * TINY_LAYERS)
    const layers = await layersOf(own.map(({ path }) => [path]))
    done.push(await push(registry, `tiny${image}`, by, layers))
  }
  return done
}
