import { Command } from 'commander'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { addRunOptions, runOptions } from '../../../src/cli/run-options.ts'
import type { RunOptions } from '../../../src/engine/options.ts'
import { ownCaller } from '../../../src/kernel/caller.ts'

/** The options of `berth run ARGS`. */
function parse(...args: string[]): RunOptions {
  const parent = new Command('berth').enablePositionalOptions().exitOverride()
  parent.configureOutput({ writeErr: () => {}, writeOut: () => {} })
  let options: RunOptions | undefined
  const run = parent.command('run')
  addRunOptions(run, { caller: ownCaller() })
    .argument('<image>')
    .argument('[command...]')
    .option('-d, --detach')
    .action((image: string, rest: string[], given: Record<string, unknown>) => {
      options = runOptions(image, rest, given, ownCaller())
    })
  parent.parse(['run', ...args], { from: 'user' })
  if (!options) throw new Error('not parsed')
  return options
}

test('without options nothing is asked for', () => {
  const options = parse('hello')
  assert.is(options.image, 'hello')
  assert.equal(options.command, [])
  assert.is(options.pull, 'missing')
  assert.is(options.network, undefined)
  assert.is(options.memory, undefined)
  assert.is(options.remove, false)
  assert.is(options.noNewPrivileges, false)
  assert.equal(options.restart, { policy: 'no', maximumRetries: 0 })
  assert.is(options.logDriver, 'cri')
})

test("options after the image's name are the container's", () => {
  const options = parse('--rm', 'hello', 'sh', '-c', 'x', '--rm', '-v', '--', '--help')
  assert.equal(options.command, ['sh', '-c', 'x', '--rm', '-v', '--', '--help'])
})

test('short options may be joined, to each other and to their values', () => {
  const options = parse('-itd', '-p8080:80', '-eA=1', '-m64m', 'hello')
  assert.ok(options.interactive && options.terminal && options.detach)
  assert.equal(options.ports[0]?.hostPort, 8080)
  assert.equal(options.env, ['A=1'])
  assert.is(options.memory, 67_108_864)
})

test('repeated options add up in order', () => {
  const options = parse(
    '-e',
    'A=1',
    '--env=B=2',
    '-v',
    '/a:/b',
    '--mount',
    'dst=/c',
    '--tmpfs',
    '/d',
    'x',
  )
  assert.equal(options.env, ['A=1', 'B=2'])
  assert.equal(
    options.mounts.map((mount) => mount.target),
    ['/b', '/c', '/d'],
  )
})

test('two parses do not share their lists', () => {
  parse('-e', 'A=1', 'x')
  assert.equal(parse('x').env, [])
})

test('values that begin with a dash are values', () => {
  const options = parse('--memory-swap', '-1', '--pids-limit=-1', '--oom-score-adj', '-5', 'x')
  assert.equal([options.memorySwap, options.pidsLimit, options.oomScoreAdj], [-1, -1, -5])
})

test('--net and --network are one', () => {
  assert.is(parse('--net', 'none', 'x').network, 'none')
  assert.is(parse('--network=host', 'x').network, 'host')
})

test('an empty entrypoint takes the image’s away', () => {
  assert.equal(parse('--entrypoint', '', 'x').entrypoint, [])
  assert.equal(parse('--entrypoint', '/bin/sh', 'x').entrypoint, ['/bin/sh'])
  assert.equal(parse('--entrypoint', '["a","b c"]', 'x').entrypoint, ['a', 'b c'])
})

const refused: [name: string, args: string[], message: RegExp][] = [
  ['a bad value names its option', ['-m', '64q', 'x'], /option --memory: "64q" is no size/],
  [
    'a known option that berth lacks is refused by name',
    ['--gpus', 'all', 'x'],
    /option --gpus is not supported/,
  ],
  ['also in its short form', ['-P', 'x'], /option --publish-all is not supported/],
  ['also without its value', ['--health-cmd=x', 'x'], /option --health-cmd is not supported/],
  ['an unknown option is refused with a suggestion', ['--memroy', '1m', 'x'], /memory/],
  [
    '--rm and --restart exclude each other',
    ['--rm', '--restart', 'always', 'x'],
    /--rm and --restart/,
  ],
  ['--cpus and --cpu-quota exclude each other', ['--cpus', '1', '--cpu-quota', '1', 'x'], /--cpus/],
  ['ports need a network', ['-p', '80', '--net', 'host', 'x'], /--publish .*--network is host/],
  [
    'a container’s network has its own names',
    ['--net', 'container:a', '--dns', '1.1.1.1', 'x'],
    /--dns excludes/,
  ],
  ['--add-host is looked at at once', ['--add-host', 'a:b', 'x'], /option --add-host/],
  ['an unknown log driver is refused by name', ['--log-driver', 'syslog', 'x'], /"syslog"/],
  ['the image is needed', ['--rm'], /missing required argument 'image'/],
]
for (const [name, args, message] of refused) {
  test(name, () => assert.throws(() => parse(...args), message))
}

test.run()
