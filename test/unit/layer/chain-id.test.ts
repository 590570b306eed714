import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { cleanPath, printable, textName } from '../../../src/layer/bytes.ts'
import { chainId } from '../../../src/layer/chain.ts'

const A = `sha256:${'a'.repeat(64)}`
const B = `sha256:${'b'.repeat(64)}`

test('the chain id of one layer is its diff id', () => {
  assert.is(chainId([A]), A)
})

test('the chain id of two is the digest of both, in order (image-spec, "Layer ChainID")', () => {
  assert.is(
    chainId([A, B]),
    'sha256:ccd722928bd92476ba1745586fed6e45a102504185ad88cd89e01ff116fd146c',
  )
  assert.is.not(chainId([A, B]), chainId([B, A]))
})

test('what is no digest is refused, so that none leads out of the store', () => {
  assert.throws(() => chainId(['sha256:../../etc']), /no sha256 digest/)
})

test('paths are cleaned below the root and tell when they meant something above it', () => {
  const cases: [string, string, boolean][] = [
    ['a/b', 'a/b', false],
    ['/a//./b/', 'a/b', false],
    ['a/../b', 'b', false],
    ['../a', 'a', true],
    ['a/../../b', 'b', true],
    ['..', '', true],
    ['./', '', false],
  ]
  for (const [path, expect, escapes] of cases) {
    const clean = cleanPath(path)
    assert.equal([clean.parts.join('/'), clean.escapes], [expect, escapes])
  }
})

test('names are printed without control characters', () => {
  assert.is(printable(textName('grün\n\u001b[31m')), 'grün\\x0a\\x1b[31m')
  assert.is(printable('\xff\xfe'), '\\xff\\xfe')
})

test.run()
