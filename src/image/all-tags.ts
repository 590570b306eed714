import { Fault } from '../base/fault.ts'
import { openRepository, type RegistryOptions } from './connect.ts'
import { formatReference, parseNamed, parseReference, repositoryOf } from './reference.ts'
import type { ImageStore } from './store.ts'

/** The full names of all tags that a repository has at its registry, sorted. INVALID_ARGUMENT for a name with a tag, and for tags that are none. */
export async function namesOfAllTags(
  store: ImageStore,
  name: string,
  options: RegistryOptions & { signal?: AbortSignal | undefined },
): Promise<string[]> {
  const named = parseNamed(name)
  if (named.tag !== undefined || named.digest !== undefined) {
    throw new Fault('INVALID_ARGUMENT', 'option --all-tags takes a repository without tag')
  }
  const reference = parseReference(name)
  using repository = openRepository(reference, options, store.warn)
  const tags = await repository.tags(options.signal)
  const names = tags.map((tag) => formatReference(parseReference(`${repositoryOf(named)}:${tag}`)))
  if (names.length > 0) return names.sort()
  throw new Fault('NOT_FOUND', `${repositoryOf(named)} has no tags`)
}
