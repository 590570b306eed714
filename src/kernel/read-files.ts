import { getSystemErrorName } from 'node:util'
import { binding } from './binding.ts'

/** What a file held when it was read, in latin1; a failed read throws, as Node's own does. */
export type Texts = (path: string) => string

/** Reads many small files (of at most 1 MiB) at once, without keeping this thread: one by one Node takes twice the kernel's time. */
export async function readTexts(paths: readonly string[]): Promise<Texts> {
  const results = await binding.readFiles(paths)
  const byPath = new Map(paths.map((path, i) => [path, results[i]]))
  return (path) => textOf(byPath.get(path), path)
}

/** The same for files of these names in each of the directories: for each directory, its texts by name. */
export async function readTextsOf(
  directories: readonly string[],
  names: readonly string[],
): Promise<Texts[]> {
  const results = await binding.readFiles(
    directories.flatMap((directory) => names.map((name) => `${directory}/${name}`)),
  )
  return directories.map((directory, i) => (name) => {
    const index = names.indexOf(name)
    return textOf(index < 0 ? undefined : results[i * names.length + index], directory, name)
  })
}

function textOf(result: string | number | undefined, ...path: readonly string[]): string {
  if (typeof result === 'string') return result
  const name = path.join('/')
  if (result === undefined) throw new TypeError(`${name} is none of those that were read`)
  const code = getSystemErrorName(-result)
  throw Object.assign(new Error(`${code}: read '${name}'`), { code, errno: -result, path: name })
}
