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

test.run()
