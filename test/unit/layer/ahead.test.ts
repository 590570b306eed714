/** Decompression on a thread of its own (native/addon/ahead.cc): small enough to run under sanitizers, too (`sanitize.js --addon`). */
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { gzipSync } from 'node:zlib'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { decompress } from '../../../src/layer/compress.ts'
import { LAYER_LIMITS } from '../../../src/layer/limits.ts'
import { PlainHash } from '../../../src/layer/plain-hash.ts'
import { chunked, failure } from '../../lib/archive.ts'

const plain = Buffer.concat([randomBytes(700_000), Buffer.alloc(9_000_000, 'some text, ')])
const packed = gzipSync(plain)

const libraries = ['yes', 'no']
for (const use of libraries) {
  for (const chunk of [300_000, packed.length]) {
    test(`more comes out whole than is made at a time (libraries: ${use}, chunks of ${chunk})`, async () => {
      process.env['BERTH_SYSTEM_LIBRARIES'] = use
      const hash = new PlainHash()
      const seen = createHash('sha256')
      for await (const piece of decompress(chunked(packed, chunk), LAYER_LIMITS, hash)) {
        seen.update(piece)
      }
      const digest = createHash('sha256').update(plain).digest('hex')
      assert.is(seen.digest('hex'), digest)
      assert.is(hash.digest(), `sha256:${digest}`)
    })
  }

  test(`it may be left at any chunk, and the rest is nobody's (libraries: ${use})`, async () => {
    process.env['BERTH_SYSTEM_LIBRARIES'] = use
    for (let wanted = 0; wanted < 7; wanted++) {
      const hash = new PlainHash()
      let taken = 0
      for await (const _chunk of decompress(chunked(packed, 100_000), LAYER_LIMITS, hash)) {
        if (taken++ === wanted) break
      }
      // Nobody takes the digest of a part for the whole's.
      assert.throws(() => hash.digest(), /could not be hashed/)
    }
  })

  test(`what is cut or damaged is refused (libraries: ${use})`, async () => {
    process.env['BERTH_SYSTEM_LIBRARIES'] = use
    const damaged = Buffer.from(packed)
    damaged.fill(0xff, 400_000, 400_100)
    for (const bytes of [packed.subarray(0, -9), damaged]) {
      const read = async (): Promise<void> => {
        for await (const _ of decompress(chunked(bytes, 90_000), LAYER_LIMITS, new PlainHash()));
      }
      assert.is((await failure(read())).code, 'DATA_LOSS')
    }
  })
}

test('a thread that ends while the other is at work for it takes nothing away from it', async () => {
  for (let i = 0; i < 10; i++) {
    // A promise that a worker's end drops, its buffers and its handle with it.
    const worker = new Worker(
      `import { workerData } from 'node:worker_threads'
       const { binding } = await import(workerData.binding)
       const { ahead } = binding.openAhead('gzip', true, 27, 2 * 1024 * 1024)
       binding.decodeAhead(ahead, workerData.packed, 0)
       process.exit(0)`,
      {
        eval: true,
        execArgv: ['--input-type=module'],
        workerData: {
          packed,
          binding: new URL('../../../src/kernel/binding.js', import.meta.url).href,
        },
      },
    )
    assert.equal(await once(worker, 'exit'), [0])
  }
})

test.run()
