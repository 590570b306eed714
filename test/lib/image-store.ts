import { readdirSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { type ImageStore, openStore } from '../../src/image/index.ts'
import { testDirectory } from './traces.ts'

/** A store in a directory of its own, gone at the end of the scope. */
export interface PrivateStore extends ImageStore {
  /** For whatever else the test writes. */
  readonly directory: string
  readonly warnings: string[]
  [Symbol.dispose](): void
}

export function privateStore(): PrivateStore {
  const directory = testDirectory()
  const warnings: string[] = []
  const store = openStore(join(directory, 'root'), {
    warn: (message) => warnings.push(message),
    // Tests cut no power, and syncing the whole file system would wait for everybody's writes.
    durable: false,
  })
  return {
    ...store,
    directory,
    warnings,
    [Symbol.dispose]: () => rmSync(directory, { recursive: true, force: true }),
  }
}

/** Files of the store that hold content: blobs, partial ones, names, records and layers, but no locks. */
export function storeContent(store: ImageStore): string[] {
  return readdirSync(store.root, { recursive: true, encoding: 'utf8' })
    .filter((path) => {
      if (/\.lock$|\/locks\/|^images\/collect$/.test(path)) return false
      if (/^layers\/(?:sha256|fixup|tmp)\/[^/]+$/.test(path)) return true
      return path.startsWith('images/') && statSync(join(store.root, path)).isFile()
    })
    .sort()
}
