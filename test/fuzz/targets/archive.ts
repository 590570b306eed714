import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openFiles, readSmall } from '../../../src/image/archive.ts'
import { BlobStore } from '../../../src/image/blobs.ts'
import { archive as rawArchive } from '../../lib/archive.ts'
import { tar } from '../../lib/images.ts'
import { claim, orFaultLater, type Target } from '../target.ts'
import { repaired } from './tar.ts'

const directory = mkdtempSync(join(tmpdir(), 'berth-fuzz-archive-'))
process.once('exit', () => rmSync(directory, { recursive: true, force: true }))
const blobs = new BlobStore(directory)
const path = join(directory, 'x.tar')

const NAMES = ['manifest.json', 'index.json', 'oci-layout', 'a/layer.tar', 'b', '../x', '']
const marked = (bytes: Buffer): Buffer => Buffer.concat([Buffer.from([0]), bytes])

/** docker-archive and oci-archive as berth load looks into them: names to pieces of the file. */
export const archive: Target = {
  run: async (input) => {
    const bytes = ((input[0] ?? 0) & 1) === 0 ? repaired(input.subarray(1)) : input.subarray(1)
    writeFileSync(path, bytes)
    await orFaultLater(async () => {
      await using files = await openFiles(blobs, path, undefined)
      for (const name of NAMES) {
        await orFaultLater(async () => {
          const size = await files.size(name)
          if (size === undefined) return
          const content = await readSmall(files, name, bytes.length)
          claim(content?.length === size, `${name} has not the ${size} bytes that it says`)
        })
      }
    })
  },
  seeds: [
    tar([
      { name: 'a/layer.tar', content: 'x'.repeat(600) },
      { name: 'b', type: 'symlink', to: 'a/../a/layer.tar' },
      { name: 'manifest.json', content: '[]' },
    ]),
    tar([
      { name: 'b', content: 'x' },
      { name: 'a/layer.tar', type: 'hardlink', to: './b' },
    ]),
    rawArchive(
      { name: '././@LongLink', type: 'L', content: 'a/layer.tar\0', magic: 'gnu' },
      { name: 'x', content: 'y', magic: 'gnu' },
      { name: 'x', content: 'z', pax: [['path', 'index.json']] },
    ),
  ].map(marked),
  words: ['path', 'linkpath', 'size', '../', './', 'a/layer.tar', 'manifest.json', '12 path=b\n'],
  bytesMax: 8192,
}
