import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { BlobStore } from '../../../src/image/blobs.ts'
import { digestOf } from '../../../src/image/digest.ts'

const directory = mkdtempSync(join(tmpdir(), 'berth-blobs-'))
let count = 0
function fresh(): { blobs: BlobStore; ingest: string } {
  const path = join(directory, String(count++))
  return { blobs: new BlobStore(path), ingest: join(path, 'ingest') }
}
const BYTES = Buffer.from('some bytes')
const DIGEST = digestOf(BYTES)

for (const algorithm of ['sha256', 'sha512'] as const) {
  test(`a ${algorithm} blob is read back`, async () => {
    const { blobs, ingest } = fresh()
    const digest = digestOf(BYTES, algorithm)
    await blobs.write(digest, BYTES)
    await blobs.write(digest, BYTES)
    assert.equal(blobs.read(digest, 100), BYTES)
    assert.equal([...blobs.list()], [{ digest, size: BYTES.length }])
    assert.equal(readdirSync(ingest), [])
  })
}

test('other bytes than those of the digest are refused and leave nothing', async () => {
  const { blobs, ingest } = fresh()
  try {
    await blobs.write(DIGEST, Buffer.from('other byte'))
    assert.unreachable()
  } catch (error) {
    assert.match(String(error), /does not match its digest/)
  }
  assert.not(blobs.has(DIGEST))
  assert.equal(readdirSync(ingest), [])
})

test('a blob that rotted is DATA_LOSS when read, a large one is not read', async () => {
  const { blobs } = fresh()
  await blobs.write(DIGEST, BYTES)
  assert.throws(() => blobs.read(DIGEST, 3), /limit/)
  writeFileSync(blobs.path(DIGEST), 'rot')
  assert.throws(() => blobs.read(DIGEST, 100), /does not match/)
})

test('a byte more than promised is refused at once', async () => {
  const { blobs } = fresh()
  await using ingest = await blobs.ingest(DIGEST, { bytesMax: 100, size: 4 })
  try {
    await ingest.write(BYTES)
    assert.unreachable()
  } catch (error) {
    assert.match(String(error), /longer than the 4 bytes/)
  }
})

test('a part is taken up where it ended', async () => {
  const { blobs, ingest: folder } = fresh()
  {
    await using ingest = await blobs.ingest(DIGEST, { bytesMax: 100, size: BYTES.length })
    await ingest.write(BYTES.subarray(0, 4))
  }
  assert.is(readdirSync(folder).length, 1)
  await using ingest = await blobs.ingest(DIGEST, { bytesMax: 100, size: BYTES.length })
  const resumed: Uint8Array[] = []
  for await (const chunk of ingest.resume()) resumed.push(chunk)
  assert.equal(Buffer.concat(resumed), BYTES.subarray(0, 4))
  await ingest.write(BYTES.subarray(ingest.offset))
  await ingest.commit()
  assert.equal(blobs.read(DIGEST, 100), BYTES)
  assert.equal(readdirSync(folder), [])
})

test('who waits for a blob finds it stored', async () => {
  const { blobs } = fresh()
  const first = await blobs.ingest(DIGEST, { bytesMax: 100 })
  const second = blobs.ingest(DIGEST, { bytesMax: 100 })
  await first.write(BYTES)
  await first.commit()
  await using waited = await second
  assert.ok(waited.isStored)
})

test('an abort ends the waiting for a blob', async () => {
  const { blobs } = fresh()
  await using _first = await blobs.ingest(DIGEST, { bytesMax: 100 })
  const abort = new AbortController()
  const second = blobs.ingest(DIGEST, { bytesMax: 100, signal: abort.signal })
  abort.abort(new Error('enough'))
  try {
    await second
    assert.unreachable()
  } catch (error) {
    assert.match(String(error), /enough/)
  }
})

test('the collector takes what the dead left and never what a living writer holds', async () => {
  const { blobs, ingest: folder } = fresh()
  writeFileSync(join(folder, 'scratch-1-1'), 'dead')
  writeFileSync(join(folder, DIGEST.replace(':', '-')), 'part')
  using scratch = await blobs.scratch()
  scratch.write(BYTES, 100)
  assert.is(blobs.collectIngest({ partials: false }), 4)
  assert.is(readdirSync(folder).length, 2)
  assert.is(blobs.collectIngest({ partials: true }), 4)
  assert.ok(existsSync(scratch.path))
})

test.after(() => rmSync(directory, { recursive: true, force: true }))
test.run()
