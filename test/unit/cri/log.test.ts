import { Writable } from 'node:stream'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Fault } from '../../../src/base/fault.ts'
import { formatLine, isJournal, Log, VALUE_LENGTH_MAX } from '../../../src/cri/log.ts'

const TIME = new Date(0)
const text = (message: string, fields = {}) => formatLine('text', TIME, 'info', message, fields)
const json = (message: string, fields = {}) => formatLine('json', TIME, 'info', message, fields)

/** A stream that keeps what it is given, and takes more only when it is told to. */
class Reader extends Writable {
  readonly lines: string[] = []
  isSlow = false
  #go: (() => void) | undefined

  override _write(chunk: Buffer, _: string, done: () => void): void {
    const take = () => {
      this.lines.push(...String(chunk).split('\n').slice(0, -1))
      done()
    }
    if (this.isSlow) this.#go = take
    else take()
  }

  resume(): void {
    this.isSlow = false
    this.#go?.()
  }
}

test('a line in text', () => {
  assert.is(
    text('call', { op: '1f', ms: 1.5, ok: true, left: undefined, none: null, big: 2n ** 60n }),
    '1970-01-01T00:00:00.000Z INFO  call op=1f ms=1.5 ok=true none=null big=1152921504606846976',
  )
  assert.match(
    text('a', { subject: 'two words', eq: 'a=b', empty: '' }),
    / subject="two words" eq="a=b" empty=""$/,
  )
  assert.match(text('a', { stages: { 'cni ADD': 1.5, wait: 2 } }), / stages="cni ADD:1.5 wait:2"$/)
})

test('an error is told with its causes', () => {
  const error = new Fault('INTERNAL', 'cannot start', { cause: new Error('no\nmemory') })
  assert.match(text('a', { error }), /error="cannot start: no\\nmemory"$/)
  assert.is(JSON.parse(json('a', { error })).error, 'cannot start: no\nmemory')
})

const HOSTILE = 'a\nb\u001b[2J\u0000\u007f\u009b1m\u2028\u202e\ud800"\\ '
test('hostile text stays one line without control characters, and JSON gives it back', () => {
  for (const line of [
    text(HOSTILE, { key: HOSTILE, [HOSTILE]: 1, deep: { [HOSTILE]: HOSTILE } }),
    json(HOSTILE, { key: HOSTILE, [HOSTILE]: 1, deep: { [HOSTILE]: HOSTILE } }),
  ]) {
    assert.not.match(line, /[\p{Cc}\p{Cs}\u2028\u202e]/u)
  }
  const back = JSON.parse(json(HOSTILE, { key: HOSTILE }))
  assert.equal([back.message, back.key], [HOSTILE, HOSTILE])
})

test('a field does not take the place of time, level or message', () => {
  const back = JSON.parse(json('real', { message: 'false', level: 'error', time: 'never' }))
  assert.equal([back.message, back.level], ['real', 'info'])
})

test('long values are cut, in messages and in structures', () => {
  const long = 'x'.repeat(1_000_000)
  const line = json(long, { a: long, b: { c: long }, d: new Error(long) })
  assert.ok(line.length < 5 * VALUE_LENGTH_MAX)
  assert.match(JSON.parse(line).a, /^x+… \(1000000 characters\)$/)
})

test('a line has no more fields than a limit', () => {
  const fields = Object.fromEntries(Array.from({ length: 1000 }, (_, i) => [`f${i}`, i]))
  assert.ok(Object.keys(JSON.parse(json('a', fields))).length < 50)
})

test('a level hides those below it, and children follow their parent', () => {
  const reader = new Reader()
  const log = Log.to(reader, { level: 'warn', format: 'json' })
  const child = log.child({ pod: 'p' })
  child.info('hidden')
  log.set({ level: 'debug' })
  child.debug('shown', { a: 1 })
  assert.is(reader.lines.length, 1)
  const { message, pod, a } = JSON.parse(reader.lines[0] ?? '')
  assert.equal([message, pod, a], ['shown', 'p', 1])
})

test('a value whose own code throws does not stop the caller', () => {
  const reader = new Reader()
  const circle: Record<string, unknown> = {}
  circle['self'] = circle
  const log = Log.to(reader, { level: 'info', format: 'text' })
  log.info('a', { circle })
  log.info('b', {
    bad: {
      get value() {
        throw new Error('no')
      },
    },
  })
  assert.is(reader.lines.length, 2)
  assert.match(reader.lines[1] ?? '', / b unreadable="Error: no"$/)
})

test('a reader that does not read costs lines, not memory or time; the loss is told', async () => {
  const reader = new Reader()
  reader.isSlow = true
  const log = Log.to(reader, { level: 'info', format: 'text' })
  for (let i = 0; i < 2000; i++) log.info('x'.repeat(2000))
  assert.ok(log.dropped > 1000, String(log.dropped))
  assert.ok(reader.writableLength < 2 * 1024 * 1024)
  const lost = log.dropped
  reader.resume()
  await log.drain(5000)
  const told = reader.lines.filter((line) => line.includes('were dropped'))
  assert.is(told.length, 1)
  assert.match(told[0] ?? '', new RegExp(` count=${lost}$`))
})

test('drain gives up on a reader that is stuck', async () => {
  const reader = new Reader()
  reader.isSlow = true
  const log = Log.to(reader, { level: 'info', format: 'text' })
  log.info('a')
  log.info('b')
  const started = performance.now()
  await log.drain(50)
  assert.ok(performance.now() - started < 2000)
})

test('a reader that is gone is no error', async () => {
  const reader = new Reader()
  const log = Log.to(reader, { level: 'info', format: 'text' })
  reader.destroy(new Error('EPIPE'))
  await new Promise(setImmediate)
  log.info('a')
  assert.is(log.dropped, 1)
  await log.drain(1000)
})

test('the journal gets a priority before each line', () => {
  const reader = new Reader()
  const log = Log.to(
    reader,
    { level: 'info', format: 'text' },
    isJournal('9:77', { dev: 9, ino: 77 }),
  )
  log.error('a')
  assert.match(reader.lines[0] ?? '', /^<3>\d{4}-/)
  assert.is(isJournal(undefined, { dev: 9, ino: 77 }), false)
  assert.is(isJournal('9:78', { dev: 9, ino: 77 }), false)
})

test.run()
