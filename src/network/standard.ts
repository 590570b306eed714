import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { findPlugin, pluginVersions } from './plugin.ts'

/** Larger than any build of a single plugin. */
const PROGRAM_BYTES_MAX = 64 * 1024 * 1024
/** More than any host has. */
const KEPT_MAX = 64

/** The standard plugins that can be done here, and where their source is within the project's. */
const SOURCES: Readonly<Record<string, string>> = {
  bridge: 'plugins/main/bridge',
  'host-local': 'plugins/ipam/host-local',
  firewall: 'plugins/meta/firewall',
}

/** Of releases that differ in what they leave behind: up to 1.5, which do not speak CNI 1.1, and since 1.6. */
export type Generation = 'before-1.6' | 'since-1.6'

const VERSIONS: readonly (readonly [Generation, string])[] = [
  ['before-1.6', '0.1.0 0.2.0 0.3.0 0.3.1 0.4.0 1.0.0'],
  ['since-1.6', '0.1.0 0.2.0 0.3.0 0.3.1 0.4.0 1.0.0 1.1.0'],
  ['before-1.6', '0.4.0 1.0.0'],
  ['since-1.6', '0.4.0 1.0.0 1.1.0'],
]

/** By path, as long as the file is the same one. */
const kept = new Map<string, { readonly file: string; readonly known: Known | undefined }>()

type Known = (typeof VERSIONS)[number]

/**
 * Of which generation the installed plugin is; undefined where it does not speak the version, or where the program of that name is not the standard one: a
 * wrapper, another project's, or one that speaks versions which are younger than what is known here. Go writes into a program what it was built from.
 */
export async function generationOf(
  type: string,
  directories: readonly string[],
  version: string,
): Promise<Generation | undefined> {
  const [generation, versions] = (await standardPlugin(type, directories)) ?? []
  return versions?.split(' ').includes(version) ? generation : undefined
}

async function standardPlugin(
  type: string,
  directories: readonly string[],
): Promise<Known | undefined> {
  const source = SOURCES[type]
  if (source === undefined) return undefined
  const path = findPlugin(type, directories)
  const { ino, size, mtimeMs, ctimeMs } = await stat(path)
  const file = `${ino} ${size} ${mtimeMs} ${ctimeMs}`
  const before = kept.get(path)
  if (before?.file === file) return before.known
  let known: Known | undefined
  if (size <= PROGRAM_BYTES_MAX) {
    const proof = `path\t${join('github.com/containernetworking/plugins', source)}\n`
    if ((await readFile(path)).includes(proof)) {
      const versions = (await pluginVersions(type, directories)).join(' ')
      known = VERSIONS.find(([, all]) => all === versions)
    }
  }
  if (kept.size >= KEPT_MAX) kept.clear()
  kept.set(path, { file, known })
  return known
}
