/** What berth writes of images, in its store and in layouts, judged by the schemas of the image-spec. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { withBerth } from '../lib/berth.ts'
import { needs } from '../lib/needs.ts'
import { imageSchemas } from '../lib/schemas.ts'

needs('root', 'overlay', 'cgroup2')

interface Described {
  readonly digest: string
  readonly mediaType: string
}

/** Everything in a layout that a schema is for, and how many images it holds. */
function judged(layout: string): { said: string[]; images: number } {
  const json = (name: string): unknown => JSON.parse(readFileSync(join(layout, name), 'utf8'))
  const blob = ({ digest }: Described): unknown => json(`blobs/${digest.replace(':', '/')}`)
  const index = json('index.json') as { manifests: Described[] }
  const said = [
    ...imageSchemas.violations('image-layout-schema', json('oci-layout')),
    ...imageSchemas.violations('image-index-schema', index),
  ]
  for (const entry of index.manifests) {
    const manifest = blob(entry) as { config: Described; layers: Described[] }
    said.push(
      ...imageSchemas.violations('content-descriptor', entry),
      ...imageSchemas.violations('image-manifest-schema', manifest),
      ...imageSchemas.violations('config-schema', blob(manifest.config)),
    )
  }
  return { said, images: index.manifests.length }
}

test('a layout of an image that was loaded, one that was committed, one that was imported and one that was built', () =>
  withBerth(async (berth) => {
    const layout = join(berth.directory, 'layout')
    await berth.ok([
      'run',
      '--net',
      'none',
      '--name',
      'c',
      '-v',
      '/data',
      'hello',
      'probe',
      'write-file',
      '/x',
      'y',
    ])
    const commit = [
      '--author',
      'Somebody',
      '-m',
      'words',
      '--change',
      'ENV A=b',
      '--change',
      'EXPOSE 80',
    ]
    await berth.ok(['commit', ...commit, 'c', 'committed:1'])
    const root = join(berth.directory, 'root.tar')
    await berth.ok(['export', '-o', root, 'c'])
    await berth.ok(['import', root, 'imported:1'])
    const context = join(berth.directory, 'context')
    mkdirSync(context)
    const lines = [
      'FROM hello',
      'COPY Dockerfile /f',
      'ENV A=b',
      'EXPOSE 80',
      'VOLUME /v',
      'CMD true',
    ]
    writeFileSync(join(context, 'Dockerfile'), lines.join('\n'))
    await berth.ok(['build', '-t', 'built:1', context])
    await berth.ok([
      'save',
      '--format',
      'oci-dir',
      '-o',
      layout,
      'hello',
      'committed:1',
      'imported:1',
      'built:1',
    ])
    assert.equal(judged(layout), { said: [], images: 4 })
    await berth.ok(['rm', '-v', 'c'])
  }))

test.run()
