import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { DATA_BYTES_MAX, encodeFrame, FrameReader, stdinFrames } from '../../../src/wire/frame.ts'
import { FRAME } from '../../../src/wire/tags.ts'

test('frames come out as they went in, wherever the stream is cut', () => {
  const stream = Buffer.concat([
    encodeFrame('reply', Buffer.from('{"ok":true}')),
    encodeFrame('quit'),
    encodeFrame('stdout', Buffer.alloc(70_000, 7)),
  ])
  for (const size of [1, 2, 4, 5, 6, 17, 4096, stream.length]) {
    const reader = new FrameReader()
    const frames = []
    for (let at = 0; at < stream.length; at += size) {
      frames.push(...reader.push(stream.subarray(at, at + size)))
    }
    assert.equal(
      frames.map(({ type, payload }) => [type, payload.length]),
      [
        [FRAME.reply, 11],
        [FRAME.quit, 0],
        [FRAME.stdout, 70_000],
      ],
    )
  }
})

test('a length that no monitor sends is refused before anything is kept for it', () => {
  const head = Buffer.from([255, 255, 255, 255, 129])
  assert.throws(() => new FrameReader().push(head), RangeError)
})

test('stdin is cut at the limit of a data frame and nothing is no frame', () => {
  const sizes = [...stdinFrames(Buffer.alloc(DATA_BYTES_MAX + 1))].map((frame) => frame.length - 5)
  assert.equal(sizes, [DATA_BYTES_MAX, 1])
  assert.equal([...stdinFrames(Buffer.alloc(0))], [])
})

test.run()
