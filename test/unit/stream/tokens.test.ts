import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { TOKEN_LIFE_MS, TOKENS_MAX } from '../../../src/stream/limits.ts'
import { Tokens } from '../../../src/stream/tokens.ts'

test('a token works once', () => {
  const tokens = new Tokens<string>()
  const token = tokens.add('a')
  assert.is(tokens.take(token), 'a')
  assert.is(tokens.take(token), undefined)
  assert.is(tokens.take(''), undefined)
})

test('tokens are long, and no two alike', () => {
  const tokens = new Tokens<number>()
  const made = new Set(Array.from({ length: 500 }, (_, i) => tokens.add(i)))
  assert.is(made.size, 500)
  for (const token of made) assert.match(token, /^[A-Za-z0-9_-]{32}$/)
})

test('a token ends after its time, and is not kept', () => {
  let now = 0
  const tokens = new Tokens<string>(() => now)
  const [early, late] = [tokens.add('early'), tokens.add('late')]
  now = TOKEN_LIFE_MS
  assert.is(tokens.take(early), 'early')
  now = TOKEN_LIFE_MS + 1
  assert.is(tokens.take(late), undefined)
  tokens.add('a')
  now += TOKEN_LIFE_MS + 1
  tokens.add('b')
  assert.is(tokens.size, 1)
})

test('with one more than there is room for, the oldest is taken back', () => {
  const tokens = new Tokens<number>()
  const made = Array.from({ length: TOKENS_MAX + 3 }, (_, i) => tokens.add(i))
  assert.is(tokens.size, TOKENS_MAX)
  assert.equal(
    made.slice(0, 5).map((token) => tokens.take(token)),
    [undefined, undefined, undefined, 3, 4],
  )
})

test.run()
