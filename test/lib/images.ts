import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { HELLO_CONFIG, helloEntries } from '../../rootfs/hello.ts'
import { type Descriptor, type ImageSource, writeLayout } from '../../rootfs/layout.ts'
import { type TarEntry, tar } from '../../rootfs/tar.ts'
import { testDirectory } from './traces.ts'

export { HELLO_CONFIG, helloEntries, type ImageSource, type TarEntry, tar, writeLayout }

/** The built-in image's layout, as `npm run build` leaves it. */
export const HELLO_LAYOUT = fileURLToPath(new URL('../../rootfs/images/hello', import.meta.url))

/** The repository, seen from dist/test/lib/. */
export const REPOSITORY = fileURLToPath(new URL('../../../', import.meta.url))

/** An image with the probe program below further layers. */
export function probeImage(name: string, ...layers: readonly TarEntry[][]): ImageSource {
  return { name, layers: [helloEntries(), ...layers], config: HELLO_CONFIG }
}

/** The archive that `skopeo copy … oci-archive:` makes: a layout in a tar file. */
export function writeOciArchive(path: string, images: readonly ImageSource[]): Descriptor[] {
  return inTemporary((layout) => {
    const manifests = writeLayout(layout, images)
    const entries = readdirSync(layout, { recursive: true, withFileTypes: true }).map(
      (e): TarEntry => {
        const file = join(e.parentPath, e.name)
        const name = relative(layout, file)
        return e.isDirectory()
          ? { name: `${name}/`, type: 'directory' }
          : { name, content: readFileSync(file) }
      },
    )
    writeFileSync(path, tar(entries))
    return manifests
  })
}

/** The archive that `docker save` made before version 25: manifest.json, configs, and uncompressed layers. */
export function writeDockerArchive(path: string, images: readonly ImageSource[]): void {
  inTemporary((layout) => {
    const manifests = writeLayout(
      layout,
      images.map((image) => ({ ...image, compression: 'none' as const })),
    )
    const blob = (digest: string) => readFileSync(join(layout, 'blobs', digest.replace(':', '/')))
    const entries = new Map<string, Buffer>()
    const list = manifests.map((descriptor, i) => {
      const manifest = JSON.parse(blob(descriptor.digest).toString()) as {
        config: Descriptor
        layers: Descriptor[]
      }
      const hex = (d: Descriptor) => d.digest.slice('sha256:'.length)
      entries.set(`${hex(manifest.config)}.json`, blob(manifest.config.digest))
      for (const layer of manifest.layers)
        entries.set(`${hex(layer)}/layer.tar`, blob(layer.digest))
      return {
        Config: `${hex(manifest.config)}.json`,
        RepoTags: [images[i]?.name],
        Layers: manifest.layers.map((layer) => `${hex(layer)}/layer.tar`),
      }
    })
    entries.set('manifest.json', Buffer.from(JSON.stringify(list)))
    writeFileSync(path, tar([...entries].map(([name, content]) => ({ name, content }))))
  })
}

function inTemporary<T>(use: (directory: string) => T): T {
  const directory = testDirectory()
  try {
    return use(directory)
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}
