// biome-ignore-all lint/suspicious/noTemplateCurlyInString: they are what is tested.
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { expandWord, splitPairs, splitWords } from '../../../src/build/words.ts'

const values: Record<string, string> = { a: '1', empty: '', b: 'x y' }
const expand = (text: string, escaper: '\\' | '`' = '\\') =>
  expandWord(text, (name) => values[name], escaper)

/** What docker makes of a word (its reference, "Environment replacement"; the shell parser of its builder). */
const CASES: [word: string, value: string][] = [
  ['$a', '1'],
  ['${a}', '1'],
  ['x$a/y${a}z', 'x1/y1z'],
  ['$none', ''],
  ['\\$a', '$a'],
  ['\\${a}', '${a}'],
  ["'$a'", '$a'],
  ['"$a"', '1'],
  ['"\\$a"', '$a'],
  ['"\\x"', '\\x'],
  ['"a\\"b"', 'a"b'],
  ['a\\ b', 'a b'],
  ['${a:-d}', '1'],
  ['${none:-d}', 'd'],
  ['${empty:-d}', 'd'],
  ['${empty-d}', ''],
  ['${none-d}', 'd'],
  ['${a:+s}', 's'],
  ['${none:+s}', ''],
  ['${empty:+s}', ''],
  ['${empty+s}', 's'],
  ['${none:-${a}}', '1'],
  ['${none:-"q $b"}', 'q x y'],
  ['$b', 'x y'],
  ['a$', 'a$'],
  ['$/x', '$/x'],
  ["it's' fine", 'its fine'],
]

for (const [word, value] of CASES) test(word, () => assert.is(expand(word), value))

test('with the backtick as escape the backslash is a character', () => {
  assert.is(expand('C:\\x`$a$a', '`'), 'C:\\x$a1')
})

test('what cannot be read is refused, and what only BuildKit has by name', () => {
  for (const word of ['"open', "'open", '${a', '${', '${a:-x', '${-}'])
    assert.throws(() => expand(word), /cannot be read/)
  assert.throws(() => expand('${none:?say so}'), /none: say so/)
  assert.is(expand('${a:?}'), '1')
  for (const word of ['${a#x}', '${a%%x}', '${a/x/y}'])
    assert.throws(() => expand(word), /not supported/)
})

test('words end at white space outside quotes', () => {
  assert.equal(splitWords('a  "b c" d\\ e\t\'f g\'h', '\\'), ['a', '"b c"', 'd\\ e', "'f g'h"])
})

test('pairs are many with =, or one with a blank', () => {
  assert.equal(splitPairs('a=1 b="2 3"', '\\'), [
    ['a', '1'],
    ['b', '"2 3"'],
  ])
  assert.equal(splitPairs('a 1 = 2', '\\'), [['a', '1 = 2']])
  assert.throws(() => splitPairs('a', '\\'), /no value/)
  assert.throws(() => splitPairs('a=1 b', '\\'), /no name=value/)
})

test.run()
