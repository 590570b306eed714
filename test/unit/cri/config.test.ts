import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Fault } from '../../../src/base/fault.ts'
import {
  compareConfigurations,
  configurationText,
  type LoadedConfiguration,
  listConfiguration,
  loadConfiguration,
  withReloadable,
} from '../../../src/cri/config.ts'
import { checkFiles } from '../../../src/cri/config-check.ts'
import { LiveConfiguration } from '../../../src/cri/live-config.ts'
import { Log } from '../../../src/cri/log.ts'
import { isPinned } from '../../../src/cri/pinned.ts'

let directory = ''
let file = ''
test.before.each(() => {
  directory = mkdtempSync(join(tmpdir(), 'berth-config-'))
  file = join(directory, 'config.toml')
})
test.after.each(() => rmSync(directory, { recursive: true }))

function load(text: string, dropIns: Record<string, string> = {}): LoadedConfiguration {
  writeFileSync(file, text)
  mkdirSync(`${file}.d`, { recursive: true })
  for (const [name, content] of Object.entries(dropIns)) {
    writeFileSync(join(`${file}.d`, name), content)
  }
  return loadConfiguration({ file, state: '/run/x' })
}

function fault(act: () => unknown): Fault {
  try {
    act()
  } catch (error) {
    if (error instanceof Fault) return error
    throw error
  }
  throw new Error('nothing failed')
}

test('an empty file gives the defaults, and the socket lies in the state directory', () => {
  const { values, origins } = load('')
  assert.is(values.socket, '/run/x/berth.sock')
  assert.is(values.stream.idleTimeoutMs, 4 * 3_600_000)
  assert.equal([...new Set(origins.values())], ['default'])
})

test('a file that is named must be there, the standard one need not', () => {
  const error = fault(() => loadConfiguration({ file, state: '/run/x' }))
  assert.is(error.code, 'NOT_FOUND')
  assert.ok(error.message.includes(file))
})

test('drop-ins win in lexical order, key by key, and a list is replaced whole', () => {
  const { values, origins, files } = load('[image]\npinned = ["a", "b"]\n[stream]\nport = 1', {
    '20.toml': '[stream]\nport = 20',
    '10.toml': '[stream]\nport = 10\n[image]\npinned = ["c*"]',
    '.30.toml': 'not toml',
    '40.conf': 'not toml',
  })
  assert.is(values.stream.port, 20)
  assert.equal(values.image.pinned, ['c*'])
  assert.is(origins.get('stream.port'), join(`${file}.d`, '20.toml'))
  assert.is(origins.get('image.pinned'), join(`${file}.d`, '10.toml'))
  assert.is(origins.get('stream.address'), 'default')
  assert.is(files.length, 3)
})

test('--socket is above all files', () => {
  writeFileSync(file, 'socket = "/a"')
  const { values, origins } = loadConfiguration({ file, state: '/run/x', socket: '/b' })
  assert.equal([values.socket, origins.get('socket')], ['/b', '--socket'])
})

const refused: [what: string, text: string, message: RegExp][] = [
  ['no TOML', 'a = 1\nb = = 2', /config\.toml:2: no valid TOML: \S/],
  ['an unknown key', 'sokcet = "/a"', /config\.toml: sokcet: .*at the top: socket, log, /],
  [
    'an unknown key of a table',
    '[stream]\nprot = 1',
    /stream\.prot: .*in \[stream\]: address, port/,
  ],
  ['a table for a value', '[socket]\na = 1', /socket = \{"a":1\}: it must be text/],
  ['a value for a table', 'stream = 1', /stream: it must be a table/],
  ['a date for a table', 'stream = 2020-01-01', /stream: it must be a table/],
  ['a list of tables for a table', '[[stream]]\nport = 1', /stream: it must be a table/],
  ['text for a number', '[stream]\nport = "1"', /stream\.port = "1": it must be a whole number/],
  ['a fraction', '[stream]\nport = 1.5', /a whole number/],
  ['not a number', '[stream]\nport = nan', /a whole number/],
  ['a number out of range', '[stream]\nport = 65536', /from 0 to 65535/],
  ['a number for a duration', '[log]\nslow_stage = 5', /a duration as text/],
  ['a duration of zero', '[log]\nslow_stage = "0s"', /from 1s to 1h/],
  ['a level that is none', '[log]\nlevel = "trace"', /known are "debug", "info"/],
  ['a name for an address', '[stream]\naddress = "localhost"', /an IP address/],
  ['metrics at a name', '[metrics]\naddress = "localhost:9090"', /an IP address, no name/],
  ['metrics without a port', '[metrics]\naddress = "127.0.0.1"', /an address reads/],
  ['a relative socket', 'socket = "a.sock"', /an absolute path/],
  ['a socket path that does not fit', `socket = "/${'a'.repeat(107)}"`, /at most 107 bytes/],
  ['control characters', 'socket = "/a\\u0001"', /control characters/],
  ['a relative plugin directory', '[network]\nplugin_dirs = ["bin"]', /an absolute path/],
  ['a list with a number', '[image]\npinned = [1]', /it must be text/],
  ['a pattern that matches all', '[image]\npinned = ["*"]', /no pattern/],
  ['a driver that is none', '[cgroup]\ndriver = "cgroup"', /known are "cgroupfs", "systemd"/],
  ['a capability that is none', '[container]\ncapabilities = ["ROOT"]', /"ROOT" is no capability/],
  ['a limit that is none', '[container]\nulimits = ["files=1"]', /no limit is called files/],
  [
    'a certificate without a key',
    '[stream]\ntls_cert = "/a"',
    /stream\.tls_cert: it needs tls_key/,
  ],
  ['a key without a certificate', '[stream]\ntls_key = "/a"', /stream\.tls_key: it needs tls_cert/],
  ['a handler with a bad name', '[runtime_handlers."a/b"]', /a handler is called/],
  [
    "a handler called as every object's base",
    '[runtime_handlers.__proto__]',
    /a handler is called/,
  ],
  ['a base for every object', '[__proto__]\nport = 1', /__proto__: berth does not know/],
  [
    'an unknown key of a handler',
    '[runtime_handlers.a]\npath = "/x"',
    /handlers\.a\.path: .*seccomp_profile/,
  ],
]
for (const [what, text, message] of refused) {
  test(`${what} is refused by name`, () => {
    const error = fault(() => load(text))
    assert.match(error.message, message)
    assert.ok(error.message.includes(file), error.message)
  })
}

test('a drop-in is judged by itself and named', () => {
  const error = fault(() => load('', { 'a.toml': '[log]\nlevel = 1' }))
  assert.match(error.message, /config\.toml\.d\/a\.toml: log\.level = 1/)
})

test('a file that is none, is open to everybody, or is a dead link is refused', () => {
  load('', { 'a.toml': '' })
  assert.match(
    fault(() => loadConfiguration({ file: directory, state: '/' })).message,
    /not a file/,
  )
  chmodSync(join(`${file}.d`, 'a.toml'), 0o666)
  assert.match(fault(() => loadConfiguration({ file, state: '/' })).message, /a\.toml.*chmod o-w/)
  rmSync(join(`${file}.d`, 'a.toml'))
  symlinkSync('/none', join(`${file}.d`, 'b.toml'))
  assert.match(fault(() => loadConfiguration({ file, state: '/' })).message, /b\.toml: a dead link/)
})

test('a handler has what [container] has where it says nothing; its name may be anything', () => {
  const { values, origins } = load(
    '[container]\nulimits = ["nofile=10"]\n[runtime_handlers.constructor]\ncapabilities = ["CHOWN"]',
  )
  const handler = values.runtimeHandlers.get('constructor')
  assert.equal(handler?.capabilities, ['CAP_CHOWN'])
  assert.equal(handler?.ulimits, ['nofile=10'])
  assert.is(origins.get('runtime_handlers.constructor.ulimits'), 'as in [container]')
  assert.is(values.runtimeHandlers.get('toString'), undefined)
})

test('the printed configuration gives the same again, and names the origins', () => {
  const first = load(
    'socket = "/q\\"uote"\n[stream]\nidle_timeout = "90s"\n[image]\npinned = ["a", "b*"]\n[runtime_handlers.x-1]\nprivileged_without_host_devices = true',
  )
  const text = configurationText(first)
  assert.match(text, /^idle_timeout = "90s" # \/.*config\.toml$/m)
  assert.match(text, /^port = 0 # default$/m)
  assert.match(text, /^\[runtime_handlers\.x-1\]$/m)
  assert.equal(compareConfigurations(first, load(text)), [])
})

test('a change says when it takes effect; without a restart the old value stays', () => {
  const before = load('[stream]\nport = 1\n[runtime_handlers.old]')
  const after = load('[stream]\nport = 2\n[log]\nlevel = "debug"\n[image]\npinned = ["x"]')
  const changes = compareConfigurations(before, after)
  assert.equal(
    changes.slice(0, 3).map(({ key, takesEffect, after: now }) => [key, takesEffect, now]),
    [
      ['log.level', 'reload', 'debug'],
      ['stream.port', 'restart', 2],
      ['image.pinned', 'reload', ['x']],
    ],
  )
  assert.ok(
    changes.some(
      ({ key, after: now }) => key.startsWith('runtime_handlers.old') && now === undefined,
    ),
  )
  const both = withReloadable(before, after)
  assert.is(both.values.stream.port, 1)
  assert.is(both.values.log.level, 'debug')
  assert.is(both.values.runtimeHandlers.size, 0)
  assert.equal(
    compareConfigurations(both, after).map(({ key }) => key),
    ['stream.port'],
  )
})

test('every key has a default that it takes itself', () => {
  for (const { key, value } of listConfiguration(load(''))) {
    if (key === 'socket') continue
    const [table, name] = key.split('.')
    assert.not.throws(() => load(`[${table}]\n${name} = ${JSON.stringify(value)}`), key)
  }
})

test('files that the configuration names are judged by check', () => {
  const profile = join(directory, 'profile.json')
  const { values } = load(
    `[stream]\ntls_cert = "${file}"\ntls_key = "${file}"\n[container]\nseccomp_profile = "${profile}"\n[runtime_handlers.a]\nseccomp_profile = "/none"`,
  )
  writeFileSync(profile, '{"defaultAction": "SCMP_ACT_NONSENSE"}')
  const problems = checkFiles(values)
  assert.is(problems.length, 3)
  assert.match(problems[0] ?? '', /^stream\.tls_cert and tls_key: /)
  assert.match(problems[1] ?? '', /^container\.seccomp_profile .*SCMP_ACT_NONSENSE/)
  assert.match(problems[2] ?? '', /^runtime_handlers\.a\.seccomp_profile \/none: ENOENT/)
  writeFileSync(profile, '{"defaultAction": "SCMP_ACT_ALLOW"}')
  assert.is(checkFiles(values).length, 2)
})

test('an image is pinned by a name, a beginning or a part', () => {
  const names = ['registry.k8s.io/pause:3.10', 'sha256:abc']
  for (const pattern of [
    'registry.k8s.io/pause:3.10',
    'registry.k8s.io/*',
    '*pause*',
    'sha256:abc',
  ]) {
    assert.ok(isPinned([pattern], names), pattern)
  }
  for (const pattern of [
    'pause',
    'registry.k8s.io/pause',
    'k8s.io/*',
    '*PAUSE*',
    'registry.k8s.io/pause:3.1',
  ]) {
    assert.not.ok(isPinned([pattern], names), pattern)
  }
  assert.not.ok(isPinned([], names))
})

test('a reload tells what has changed, keeps what needs a restart, and keeps all where a file is bad', async () => {
  const lines: string[] = []
  const log = Log.to(
    new Writable({
      write(chunk, _, done) {
        lines.push(String(chunk))
        done()
      },
    }),
    { level: 'info', format: 'text' },
  )
  const live = new LiveConfiguration({ file, state: '/run/x' }, load('[stream]\nport = 1'), log)
  const told: string[][] = []
  live.onChange(() => {
    throw new Error('this one fails')
  })
  live.onChange((values, changes) => {
    told.push([values.log.level, String(values.stream.port), ...changes.map(({ key }) => key)])
  })
  load('[stream]\nport = 2\n[log]\nlevel = "debug"')
  assert.is(await live.reload(), true)
  assert.equal(told, [['debug', '1', 'log.level']])
  assert.ok(lines.some((line) => /WARN .*next start key=stream\.port before=1 now=2/.test(line)))
  assert.ok(lines.some((line) => /ERROR .*not in force error="this one fails"/.test(line)))

  writeFileSync(file, '[log]\nlevel = "loud"')
  assert.is(await live.reload(), false)
  assert.is(live.values.log.level, 'debug')
  writeFileSync(file, '[container]\nseccomp_profile = "/none"')
  assert.is(await live.reload(), false)
  assert.is(live.values.container.seccompProfile, '')
  assert.is(told.length, 1)
  assert.ok(lines.some((line) => /ERROR configuration not reloaded.*log\.level = /.test(line)))
})

test.run()
