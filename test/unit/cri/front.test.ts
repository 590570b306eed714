/** The thread for native/front where it cannot work: the daemon goes on, and ends when it is told to. */
import { PassThrough } from 'node:stream'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { within } from '../../../src/base/within.ts'
import { Front } from '../../../src/cri/front.ts'
import { Log } from '../../../src/cri/log.ts'
import { eventually } from '../../lib/eventually.ts'

test('one that has failed keeps nobody waiting at the end', async () => {
  const output = new PassThrough()
  const log = Log.to(output, { level: 'info', format: 'text' }, false)
  const missing = '/proc/self/fdinfo/none'
  const front = new Front({ root: missing, state: missing }, log)
  let said = ''
  output.on('data', (part) => {
    said += part
  })
  await eventually('it has failed', () => said.includes('front'))
  await within(5000, front.close())
  assert.match(said, /ERROR front error=/)
})

test.run()
