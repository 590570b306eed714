import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { podContainerRecords } from '../../../src/engine/pod-records.ts'

const root = mkdtempSync(join(tmpdir(), 'berth-pods-'))

function write(pod: string, id: string, content: string): void {
  const directory = join(root, 'pods', pod, 'containers', id)
  mkdirSync(directory, { recursive: true })
  writeFileSync(join(directory, 'record.json'), content)
}

const records = () => [...podContainerRecords(root)]

test('without pods there is no record', () => assert.equal(records(), []))

test('records of all pods are read; a container being made has none yet', () => {
  mkdirSync(join(root, 'pods/empty'), { recursive: true })
  mkdirSync(join(root, 'pods/a/containers/new'), { recursive: true })
  write('a', 'c1', JSON.stringify({ imageId: 'sha256:1', lower: ['x'], other: 1 }))
  const volume = { imageId: 'sha256:2', lower: ['y'] }
  write('b', 'c2', JSON.stringify({ imageId: 'sha256:1', lower: [], imageMounts: [volume] }))
  assert.equal(
    records().sort((a, b) => a.id.localeCompare(b.id)),
    [
      { pod: 'a', id: 'c1', imageId: 'sha256:1', lower: ['x'], imageMounts: [] },
      { pod: 'b', id: 'c2', imageId: 'sha256:1', lower: [], imageMounts: [volume] },
    ],
  )
})

test('a record that does not say what it uses is an error, not nothing', () => {
  for (const content of [
    '',
    '{',
    'null',
    '[]',
    '{"imageId":"a"}',
    '{"imageId":"a","lower":[1]}',
    '{"imageId":"a","lower":[],"imageMounts":[{}]}',
    '{"imageId":"a","lower":[],"imageMounts":7}',
  ]) {
    write('b', 'c3', content)
    assert.throws(records, /record\.json is damaged/, content)
  }
})

test.after(() => rmSync(root, { recursive: true, force: true }))

test.run()
