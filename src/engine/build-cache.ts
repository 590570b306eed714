import { mkdirSync, readdirSync, rmSync, statSync, utimesSync } from 'node:fs'
import { join } from 'node:path'
import { Fault, isErrno } from '../base/fault.ts'
import { readJsonIfAny, writeFileAtomic } from '../base/file.ts'
import type { ImageLayer } from '../image/compose.ts'
import type { Engine } from './open.ts'

/** What a step of a build made: ROOT/build-cache/KEY.json. The key is a digest of all that the step depends on. */
export interface CachedStep {
  readonly version: 1
  readonly layer: ImageLayer
  /** RFC 3339: when it was made. */
  readonly created: string
}

/** A step that no build has asked for so long keeps no layer any more. */
const AGE_MAX_MS = 14 * 24 * 60 * 60 * 1000
const KEY = /^[0-9a-f]{64}$/

export function readCachedStep(engine: Engine, key: string): CachedStep | undefined {
  const path = pathOf(engine, key)
  const value = readStep(path)
  if (value) {
    const now = new Date()
    // Removed by a prune just now: the layers are held by the build all the same.
    if (statSync(path, { throwIfNoEntry: false })) utimesSync(path, now, now)
  }
  return value
}

export function writeCachedStep(engine: Engine, key: string, step: CachedStep): void {
  mkdirSync(engine.at.buildCache, { recursive: true, mode: 0o700 })
  writeFileAtomic(pathOf(engine, key), JSON.stringify(step))
}

/** Diff ids of the layers that the cache keeps from being collected. */
export function cachedLayers(engine: Engine): string[] {
  return entries(engine).flatMap((path) => {
    const status = statSync(path, { throwIfNoEntry: false })
    if (!status || Date.now() - status.mtimeMs > AGE_MAX_MS) return []
    const step = readStep(path)
    return step ? [step.layer.diffId] : []
  })
}

/** Forgets every step: the next build makes all anew. */
export function clearBuildCache(engine: Engine): void {
  for (const path of entries(engine)) rmSync(path, { force: true })
}

function pathOf(engine: Engine, key: string): string {
  return join(engine.at.buildCache, `${key}.json`)
}

function entries(engine: Engine): string[] {
  try {
    return readdirSync(engine.at.buildCache).map((name) => join(engine.at.buildCache, name))
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return []
    throw error
  }
}

/** A damaged entry is none: the step is made again. */
function readStep(path: string): CachedStep | undefined {
  try {
    const value = readJsonIfAny(path) as CachedStep | undefined
    const isGood =
      value?.version === 1 &&
      typeof value.created === 'string' &&
      KEY.test(value.layer?.diffId?.replace('sha256:', '') ?? '')
    return isGood ? value : undefined
  } catch (error) {
    if (error instanceof Fault && error.code === 'DATA_LOSS') return undefined
    throw error
  }
}
