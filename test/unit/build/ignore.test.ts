import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { globPattern } from '../../../src/build/glob.ts'
import { parseIgnore } from '../../../src/build/ignore.ts'

/** Which of the paths are left out. */
function ignored(text: string, ...paths: string[]): string[] {
  return paths.filter(parseIgnore(text))
}

test('a pattern is of the whole path from the root, and takes what is below a directory', () => {
  assert.equal(ignored('a\n/b/\n./c', 'a', 'a/x', 'x/a', 'b', 'b/c/d', 'c', 'ab'), [
    'a',
    'a/x',
    'b',
    'b/c/d',
    'c',
  ])
})

test('stars end at a slash, two of them do not', () => {
  assert.equal(ignored('*.log', 'x.log', 'a/x.log', 'log'), ['x.log'])
  assert.equal(ignored('**/*.log', 'x.log', 'a/x.log', 'a/b/x.log'), [
    'x.log',
    'a/x.log',
    'a/b/x.log',
  ])
  assert.equal(ignored('a/**/z', 'a/z', 'a/b/z', 'a/b/c/z', 'z'), ['a/z', 'a/b/z', 'a/b/c/z'])
  assert.equal(ignored('a/**', 'a', 'a/b', 'a/b/c'), ['a/b', 'a/b/c'])
  assert.equal(ignored('te?t', 'test', 'te/t'), ['test'])
})

test('the last line that matches decides', () => {
  const text = '*.md\n!README*.md\nREADME-secret.md'
  assert.equal(ignored(text, 'a.md', 'README.md', 'README-secret.md'), ['a.md', 'README-secret.md'])
  assert.equal(ignored('!a\n*', 'a'), ['a'])
  assert.equal(ignored('d\n!d/keep', 'd/x', 'd/keep', 'd/keep/y'), ['d/x'])
  assert.ok(parseIgnore('d\n!d/keep').hasExceptions)
})

test('comments, blanks and characters that mean something to a regular expression', () => {
  assert.equal(ignored('# c\n\n  a  \n', 'c', 'a'), ['a'])
  const odd = ['c++', 'a(b)', 'x{1}', 'p|q', 'a.b', '$x', '^', 'constructor']
  assert.equal(ignored(odd.join('\n'), ...odd, 'axb', 'cc'), odd)
  assert.equal(ignored('[a-c]x\n[^a]y\n\\*', 'ax', 'dx', 'by', 'ay', '*', 'q'), ['ax', 'by', '*'])
  assert.throws(() => parseIgnore('[a'), /pattern/)
})

test('a pattern of COPY knows no double star', () => {
  const pattern = globPattern('a/**.txt', { doubleStar: false })
  assert.equal([pattern.test('a/x.txt'), pattern.test('a/b/x.txt')], [true, false])
  assert.ok(globPattern('hom\u00fc?', { doubleStar: false }).test('homü😀'))
})

test('patterns and paths that are made to take for ever take no time', () => {
  const text = 'a'.repeat(5000)
  const claims: readonly [string, string, boolean][] = [
    ['*a'.repeat(40), `${text}b`, false],
    ['*a'.repeat(40), text, true],
    ['**/a'.repeat(40), `${'a/'.repeat(2000)}b`, false],
    [`${'**/*a'.repeat(20)}**`, `${'a/'.repeat(2000)}b`, true],
  ]
  for (const [pattern, path, isMeant] of claims) {
    assert.is(globPattern(pattern, { doubleStar: true }).test(path), isMeant, pattern)
  }
})

test('sets as in Go: ranges, escapes, characters outside the basic plane', () => {
  const test = (pattern: string, path: string) =>
    globPattern(pattern, { doubleStar: false }).test(path)
  assert.ok(test('[a-cx]', 'b') && test('[a-cx]', 'x') && !test('[a-cx]', 'd'))
  assert.ok(test('[\\]]', ']') && test('[\\d]', 'd') && !test('[\\d]', '5'))
  assert.ok(test('[😀-😂]', '😁') && !test('[^😀-😂]', '😁'))
  for (const pattern of ['[]', '[^]', '[b-a]', '[a', '[a\\', 'a\\']) {
    assert.throws(() => test(pattern, 'a'), /valid pattern/, pattern)
  }
})

test.run()
