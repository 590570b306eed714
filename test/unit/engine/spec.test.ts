import { Command } from 'commander'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { addRunOptions, runOptions } from '../../../src/cli/run-options.ts'
import { capabilities, commandOf, containerSpec } from '../../../src/engine/spec.ts'
import { ownCaller } from '../../../src/kernel/caller.ts'
import type { ImageConfig } from '../../../src/spec/image.ts'

function options(...args: string[]) {
  const command = addRunOptions(new Command().exitOverride(), { caller: ownCaller() })
    .argument('<image>')
    .argument('[command...]')
  command.parse(args, { from: 'user' })
  const [image = '', ...rest] = command.args
  return runOptions(image, rest, command.opts(), ownCaller())
}
const image = (config: ImageConfig['config']): ImageConfig =>
  ({
    architecture: 'amd64',
    os: 'linux',
    config,
    rootfs: { type: 'layers', diff_ids: [] },
  }) as ImageConfig
const spec = (args: string[], config: ImageConfig['config'] = { Cmd: ['x'] }) =>
  containerSpec({
    id: 'ab'.repeat(32),
    options: options(...args, 'i'),
    env: process.env,
    image: image(config),
    mappings: undefined,
    volumes: [],
    etc: { hosts: '/h', hostname: '/n', resolv: '/r' },
    rootPath: '/root',
    seccomp: undefined,
    namespaces: [{ type: 'uts' }],
    cgroupsPath: '/x',
    annotations: {},
  })

const COMMANDS: [claim: string, args: string[], config: ImageConfig['config'], expect: string[]][] =
  [
    ['the image’s command', ['i'], { Cmd: ['a', 'b'] }, ['a', 'b']],
    ['entrypoint and command', ['i'], { Entrypoint: ['e'], Cmd: ['a'] }, ['e', 'a']],
    [
      'a command given takes the place of the image’s',
      ['i', 'z'],
      { Entrypoint: ['e'], Cmd: ['a'] },
      ['e', 'z'],
    ],
    [
      'an entrypoint given drops the image’s command',
      ['--entrypoint', 'n', 'i'],
      { Entrypoint: ['e'], Cmd: ['a'] },
      ['n'],
    ],
    [
      'an empty entrypoint drops the image’s',
      ['--entrypoint', '', 'i', 'z'],
      { Entrypoint: ['e'], Cmd: ['a'] },
      ['z'],
    ],
  ]
for (const [claim, args, config, expect] of COMMANDS) {
  test(`command: ${claim}`, () => assert.equal(commandOf(options(...args), image(config)), expect))
}
test('no command at all is refused', () => {
  assert.throws(() => commandOf(options('i'), image({})), /no command to run/)
})

const caps = (capAdd: string[], capDrop: string[], privileged = false) =>
  capabilities({ capAdd, capDrop, privileged })
test('capabilities: docker’s fourteen', () => assert.is(caps([], []).length, 14))
test('capabilities: names in any case, with and without CAP_', () => {
  assert.ok(caps(['net_admin'], []).includes('CAP_NET_ADMIN'))
  assert.not.ok(caps([], ['CAP_CHOWN']).includes('CAP_CHOWN'))
})
test('capabilities: a drop wins over an add; ALL then single ones', () => {
  assert.not.ok(caps(['MKNOD'], ['MKNOD']).includes('CAP_MKNOD'))
  assert.equal(caps(['KILL'], ['ALL']), ['CAP_KILL'])
  assert.not.ok(caps(['ALL'], ['SYS_ADMIN']).includes('CAP_SYS_ADMIN'))
  assert.ok(caps([], [], true).includes('CAP_SYS_ADMIN'))
  assert.throws(() => caps(['NOSUCH'], []), /"NOSUCH" is no capability/)
})
test('capabilities are never inheritable or ambient (CVE-2022-24769)', () => {
  const sets = spec([]).process?.capabilities
  assert.is(sets?.inheritable, undefined)
  assert.is(sets?.ambient, undefined)
})

test('environment: ours, the image’s, the options’; a name alone takes the caller’s or none', () => {
  process.env['BERTH_TEST_CALLER'] = 'caller'
  delete process.env['BERTH_TEST_UNSET']
  const env = spec(
    [
      '-e',
      'A=option',
      '-e',
      'BERTH_TEST_CALLER',
      '-e',
      'BERTH_TEST_UNSET',
      '-e',
      'EMPTY=',
      '-h',
      'box',
    ],
    {
      Cmd: ['x'],
      Env: ['A=image', 'B=image=2', 'BERTH_TEST_UNSET=image', 'PATH=/bin'],
    },
  ).process?.env
  assert.equal([...(env ?? [])].sort(), [
    'A=option',
    'B=image=2',
    'BERTH_TEST_CALLER=caller',
    'EMPTY=',
    'HOSTNAME=box',
    'PATH=/bin',
  ])
  assert.match((spec([]).process?.env ?? []).join('\n'), /^PATH=\/usr\/local\/sbin/m)
  assert.ok(spec(['-t']).process?.env?.includes('TERM=xterm'))
})

test('the host name is twelve digits of the id, or what is asked for', () => {
  assert.is(spec([]).hostname, 'abababababab')
  assert.is(spec(['-h', 'box']).hostname, 'box')
})

test('a working directory that is not absolute is refused, the image’s too', () => {
  assert.throws(() => spec(['-w', 'x']), /"x" is not absolute/)
  assert.throws(() => spec([], { Cmd: ['x'], WorkingDir: 'y' }), /"y" is not absolute/)
})

test('mask adds, unmask takes away, --privileged hides nothing', () => {
  const masked = spec([]).linux?.maskedPaths ?? []
  assert.ok(masked.includes('/proc/keys'))
  assert.ok(spec(['--security-opt', 'mask=/x']).linux?.maskedPaths?.includes('/x'))
  assert.not.ok(
    spec(['--security-opt', 'unmask=/proc/keys']).linux?.maskedPaths?.includes('/proc/keys'),
  )
  assert.equal(spec(['--security-opt', 'unmask=ALL']).linux?.maskedPaths, [])
  assert.equal(spec(['--privileged']).linux?.maskedPaths, [])
})

test('--privileged hides what is asked for all the same', () => {
  assert.equal(spec(['--privileged', '--security-opt', 'mask=/a']).linux?.maskedPaths, ['/a'])
})

test('--ipc none has no /dev/shm', () => {
  const targets = (spec(['--ipc', 'none']).mounts ?? []).map((mount) => mount.destination)
  assert.not(targets.includes('/dev/shm'))
  assert.ok(targets.includes('/dev/mqueue'))
})

test('two mounts at one place, and one at /, are refused', () => {
  assert.throws(() => spec(['--tmpfs', '/a', '--tmpfs', '/a/']), /two mounts at \/a/)
  assert.throws(() => spec(['--tmpfs', '/']), /\//)
})

test.run()
