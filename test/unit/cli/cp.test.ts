import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { changedConfig, parseChange } from '../../../src/cli/change.ts'
import { destination, parsePlace, renamed } from '../../../src/cli/cp.ts'

test('a place is in a container where a name and a colon come before any slash or dot', () => {
  assert.equal(parsePlace('web:/etc'), { container: 'web', path: '/etc' })
  assert.equal(parsePlace('web:etc:x'), { container: 'web', path: 'etc:x' })
  for (const path of ['/a:b', './a:b', '../a', 'a', '-', 'a/b:c', '.:x']) {
    assert.equal(parsePlace(path), { path })
  }
  assert.throws(() => parsePlace('web:'), /names no path/)
})

const file = { name: 'f', kind: 'file', contents: false }
const directory = { name: 'd', kind: 'directory', contents: false }
const rows: [string, typeof file, string, string | undefined, string, string][] = [
  ['a file becomes what is not there', file, '/t/x', undefined, '/t', 'x'],
  ['a file replaces a file', file, '/t/x', 'file', '/t', 'x'],
  ['a file goes into a directory', file, '/t/x', 'directory', '/t/x', 'f'],
  ['a directory becomes what is not there', directory, '/t/x', undefined, '/t', 'x'],
  ['also with a slash', directory, '/t/x/', undefined, '/t', 'x'],
  ['a directory goes into a directory', directory, '/t/x', 'directory', '/t/x', 'd'],
  [
    'its contents go into a directory',
    { ...directory, contents: true },
    '/t',
    'directory',
    '/t',
    '',
  ],
  [
    'its contents become what is not there',
    { ...directory, contents: true },
    '/t',
    undefined,
    '/',
    't',
  ],
]
for (const [name, source, path, kind, where, what] of rows) {
  test(name, () => {
    assert.equal(destination(source, { path, kind }), { directory: where, name: what })
  })
}

test('a directory never replaces a file, and a file makes no directory', () => {
  assert.throws(() => destination(directory, { path: '/x', kind: 'file' }), /no directory/)
  assert.throws(() => destination(file, { path: '/x/', kind: undefined }), /no such directory/)
  assert.throws(() => destination(file, { path: '/x/', kind: 'file' }), /no directory/)
})

test('only the top of an archive is renamed', () => {
  assert.is(renamed('d', 'd', 'x'), 'x')
  assert.is(renamed('d/', 'd', 'x'), 'x')
  assert.is(renamed('d/d/f', 'd', 'x'), 'x/d/f')
  assert.is(renamed('./d/f', 'd', ''), '/f')
  assert.is(renamed('.', '.', 'x'), 'x')
  assert.is(renamed('./f', '.', 'x'), 'x/f')
})

test('--change makes the image’s defaults', () => {
  const config = changedConfig(
    [
      'CMD ["sh","-c","x y"]',
      'entrypoint echo a',
      'ENV A="b c"',
      'ENV B "d e"',
      'LABEL k=v',
      'EXPOSE 80 53/udp',
      'VOLUME ["/data"]',
      'WORKDIR w',
    ].map(parseChange),
    { WorkingDir: '/x' },
  )
  assert.equal(config, {
    Cmd: ['sh', '-c', 'x y'],
    Entrypoint: ['/bin/sh', '-c', 'echo a'],
    Env: ['A=b c', 'B=d e'],
    Labels: { k: 'v' },
    ExposedPorts: { '80/tcp': {}, '53/udp': {} },
    Volumes: { '/data': {} },
    WorkingDir: '/x/w',
  })
  assert.throws(() => parseChange('RUN x'), /RUN is not supported/)
  assert.throws(() => parseChange('NONSENSE x'), /NONSENSE/)
})

test.run()
