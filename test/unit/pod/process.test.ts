import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  commandOf,
  environmentOf,
  storedConfig,
  workingDirectory,
} from '../../../src/pod/process.ts'
import type { ImageConfig } from '../../../src/spec/image.ts'
import { containerConfig, refused } from './config.ts'

const IMAGE = { Entrypoint: ['entry', '-e'], Cmd: ['cmd'] }
const COMMANDS: [claim: string, command: string[], args: string[], expect: string[]][] = [
  ['nothing given: the image’s', [], [], ['entry', '-e', 'cmd']],
  ['arguments take the place of the image’s command', [], ['a'], ['entry', '-e', 'a']],
  ['a command drops all of the image’s', ['mine'], [], ['mine']],
  ['a command with arguments', ['mine'], ['a', 'b'], ['mine', 'a', 'b']],
]
for (const [claim, command, args, expect] of COMMANDS) {
  test(claim, () => assert.equal(commandOf({ command, args }, IMAGE), expect))
}

test('no command anywhere is refused', () => {
  const none = { command: [], args: [] }
  refused(() => commandOf(none, undefined), 'INVALID_ARGUMENT', /no command specified/)
  refused(() => commandOf(none, { Cmd: [''] }), 'INVALID_ARGUMENT', /command: .*empty/)
  refused(() => commandOf({ command: [], args: [''] }, {}), 'INVALID_ARGUMENT', /empty/)
})

test('hostile arguments are refused by their place', () => {
  const long = 'x'.repeat(131072)
  refused(() => commandOf({ command: ['a\0'], args: [] }, {}), 'INVALID_ARGUMENT', /command\[0\]/)
  refused(() => commandOf({ command: ['a'], args: [long] }, {}), 'INVALID_ARGUMENT', /args\[0\]/)
  refused(
    () => commandOf({ command: Array(32769).fill('x'), args: [] }, {}),
    'INVALID_ARGUMENT',
    /command: has more than/,
  )
})

function environment(
  envs: [string, string][],
  image: ImageConfig['config'] = {},
  { tty = false, home = '/root' } = {},
): string[] {
  const config = containerConfig({ tty, envs: envs.map(([key, value]) => ({ key, value })) })
  return environmentOf({ config, image, hostname: 'web-0', home })
}
const PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

test('without a word: a path, the host’s name, the home of the user', () =>
  assert.equal(environment([]), [PATH, 'HOSTNAME=web-0', 'HOME=/root']))

test('a terminal has a type', () =>
  assert.ok(environment([], {}, { tty: true }).includes('TERM=xterm')))

test('the client’s variables win over the image’s, and those over ours', () =>
  assert.equal(
    environment(
      [
        ['A', 'client'],
        ['HOSTNAME', 'client'],
        ['EMPTY', ''],
        ['EQUALS', 'a=b'],
      ],
      { Env: ['A=image', 'PATH=/image', 'HOME=/image', 'NOVALUE', '=x'] },
    ),
    ['PATH=/image', 'HOSTNAME=client', 'A=client', 'HOME=/image', 'EMPTY=', 'EQUALS=a=b'],
  ))

test('hostile variables are refused', () => {
  const invalid = (act: () => unknown, message: RegExp) => refused(act, 'INVALID_ARGUMENT', message)
  invalid(() => environment([['', 'x']]), /envs\[0\]\.key: "" is no name/)
  invalid(() => environment([['A=B', 'x']]), /envs\[0\]\.key: "A=B"/)
  invalid(() => environment([['A', 'x\0y']]), /envs\[0\]: holds a NUL/)
  invalid(() => environment([['A', 'x'.repeat(131072)]]), /envs\[0\]: is longer/)
  invalid(() => environment([], { Env: ['A=\0'] }), /image's Env\[0\]/)
})

test('a home of two lines is refused, whoever asks for it (CVE-2026-15809)', () => {
  for (const home of ['/root\nx::0:0::/:/bin/sh', '/\r']) {
    refused(() => environment([['HOME', home]]), 'INVALID_ARGUMENT', /envs\[0\]: HOME/)
    refused(() => environment([], { Env: [`HOME=${home}`] }), 'INVALID_ARGUMENT', /image's Env/)
  }
})

test('a variable is kept as text, and what is none is refused', () => {
  const { envs: _envs, ...rest } = containerConfig()
  const stored = (value: Buffer) => storedConfig({ ...rest, envs: [{ key: 'K', value }] }).envs
  assert.equal(stored(Buffer.from('ö')), [{ key: 'K', value: 'ö' }])
  refused(() => stored(Buffer.from([0xff, 0xfe])), 'INVALID_ARGUMENT', /envs\[0\]\.value: "K"/)
})

test('the working directory is the client’s, the image’s or the root', () => {
  const at = (workingDir: string, image: ImageConfig['config']) =>
    workingDirectory({ workingDir }, image)
  assert.is(at('/a/../b/', { WorkingDir: '/image' }), '/b')
  assert.is(at('', { WorkingDir: '/image' }), '/image')
  assert.is(at('', { WorkingDir: '' }), '/')
  assert.is(at('', undefined), '/')
  refused(() => at('a', {}), 'INVALID_ARGUMENT', /^working_dir: "a"/)
  refused(() => at('', { WorkingDir: 'a' }), 'INVALID_ARGUMENT', /image's WorkingDir/)
})

test.run()
