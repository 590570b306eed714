import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { describe } from '../../../src/base/fault.ts'
import {
  attachedContainers,
  attachedNetworks,
  attachNetwork,
  detachNetworks,
} from '../../../src/network/attachment.ts'
import {
  type Attachment,
  addNetwork,
  chainVersion,
  checkNetwork,
  collectNetwork,
  deleteNetwork,
} from '../../../src/network/chain.ts'
import { type NetworkConf, parseConf } from '../../../src/network/conf.ts'
import { callPlugin } from '../../../src/network/plugin.ts'
import { eventually } from '../../lib/eventually.ts'

/** Plugins are programs of others: these are shell scripts that write down how they were called. */
class Plugins {
  readonly directory = mkdtempSync(join(tmpdir(), 'berth-plugins-'))
  readonly results = join(this.directory, 'results')

  get options(): { directories: string[] } {
    return { directories: [this.directory] }
  }

  /** `body` runs after the call was written down, with the configuration in $conf. */
  make(type: string, body = 'echo "{}"'): void {
    const path = join(this.directory, type)
    const log = `printf '%s %s %s|%s|%s\\n' "$CNI_COMMAND" "${type}" "$CNI_IFNAME" "$CNI_ARGS" "$conf" >> '${this.directory}/log'`
    writeFileSync(path, `#!/bin/sh\nconf=$(cat)\n${log}\n${body}\n`)
    chmodSync(path, 0o755)
  }

  /** `ADD bridge` … in order, with what was read on stdin. */
  calls(): { call: string; args: string; conf: Record<string, unknown> }[] {
    const text = readFileSync(join(this.directory, 'log'), 'utf8')
    return text
      .trim()
      .split('\n')
      .map((line) => {
        const [head = '', args = '', ...conf] = line.split('|')
        const [command, type] = head.split(' ')
        return { call: `${command} ${type}`, args, conf: JSON.parse(conf.join('|')) }
      })
  }

  names(): string[] {
    return this.calls().map(({ call }) => call)
  }
}

const test = suite<{ plugins: Plugins }>('chain')
test.before.each((context) => {
  context.plugins = new Plugins()
})
test.after.each(({ plugins }) => rmSync(plugins.directory, { recursive: true }))

const network = (...plugins: (string | Record<string, unknown>)[]): NetworkConf =>
  parseConf(
    JSON.stringify({
      cniVersion: '1.0.0',
      name: 'net',
      plugins: plugins.map((plugin) => (typeof plugin === 'string' ? { type: plugin } : plugin)),
    }),
    'f',
  )
const attachment: Attachment = {
  containerId: 'c1',
  netns: '/proc/self/ns/net',
  ifname: 'eth0',
  args: ['IgnoreUnknown=1', 'A=b'],
  capabilities: {},
}
const RESULT = (n: number): string =>
  `echo '{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.${n}/24"}]}'`
const FAIL = `echo '{"cniVersion":"1.0.0","code":11,"msg":"no room","details":"pool is empty"}'; exit 1`

test('each plugin gets the result of the one before, the last one counts', async ({ plugins }) => {
  plugins.make('a', RESULT(1))
  plugins.make('b', RESULT(2))
  const { result, version } = await addNetwork(network('a', 'b'), attachment, plugins.options)
  assert.equal(result.ips, [{ address: '10.0.0.2/24' }])
  assert.is(version, '1.0.0')
  const [first, second] = plugins.calls()
  assert.equal(first?.conf, { type: 'a', name: 'net', cniVersion: '1.0.0' })
  assert.equal(second?.conf['prevResult'], {
    cniVersion: '1.0.0',
    ips: [{ address: '10.0.0.1/24' }],
  })
  assert.is(first?.args, 'IgnoreUnknown=1;A=b')
})

test('a failed ADD is taken back by DEL of all, last first', async ({ plugins }) => {
  plugins.make('a', RESULT(1))
  plugins.make('b', `case $CNI_COMMAND in ADD) ${FAIL};; esac`)
  plugins.make('c')
  await rejects(
    addNetwork(network('a', 'b', 'c'), attachment, plugins.options),
    'UNAVAILABLE',
    /no room: pool is empty/,
  )
  assert.equal(plugins.names(), ['ADD a', 'ADD b', 'DEL c', 'DEL b', 'DEL a'])
})

test('DEL goes on over failures and returns them', async ({ plugins }) => {
  plugins.make('a')
  plugins.make('b', FAIL)
  plugins.make('c', 'echo broken >&2; exit 3')
  const failures = await deleteNetwork(
    network('a', 'b', 'c', 'missing'),
    attachment,
    { raw: { x: 1 }, version: '1.0.0' },
    plugins.options,
  )
  assert.equal(plugins.names(), ['DEL c', 'DEL b', 'DEL a'])
  assert.equal(
    plugins.calls().map(({ conf }) => conf['prevResult']),
    [{ x: 1 }, { x: 1 }, { x: 1 }],
  )
  assert.is(failures.length, 3)
  assert.match(failures[0]?.message ?? '', /"missing" is in none of/)
  assert.match(failures[1]?.message ?? '', /exit status 3.*broken/)
  assert.match(failures[2]?.message ?? '', /no room/)
})

test('plugins get the capabilities they declare, and no others', async ({ plugins }) => {
  plugins.make('a', RESULT(1))
  plugins.make('b', RESULT(1))
  const portMappings = [{ hostPort: 1, containerPort: 2, protocol: 'tcp' as const }]
  await addNetwork(
    network('a', { type: 'b', capabilities: { portMappings: true, dns: false, mac: true } }),
    { ...attachment, capabilities: { portMappings, dns: { servers: ['1.1.1.1'] } } },
    plugins.options,
  )
  const [first, second] = plugins.calls()
  assert.is(first?.conf['runtimeConfig'], undefined)
  assert.equal(second?.conf['runtimeConfig'], { portMappings })
  assert.is(second?.conf['capabilities'], undefined)
})

test('what no plugin can do is refused before any is called', async ({ plugins }) => {
  plugins.make('a')
  const capabilities = {
    portMappings: [{ hostPort: 1, containerPort: 2, protocol: 'tcp' as const }],
  }
  await rejects(
    addNetwork(network('a'), { ...attachment, capabilities }, plugins.options),
    'FAILED_PRECONDITION',
    /network net cannot publish ports/,
  )
  assert.not(readdirSync(plugins.directory).includes('log'))
})

test('of several versions the newest that all plugins know is spoken', async ({ plugins }) => {
  plugins.make('a', `echo '{"cniVersion":"1.0.0","supportedVersions":["0.3.1","0.4.0","1.0.0"]}'`)
  plugins.make('b', `echo '{"cniVersion":"1.0.0","supportedVersions":["0.3.1","0.4.0"]}'`)
  plugins.make('old', `echo '{"cniVersion":"0.1.0"}'`)
  const conf = { ...network('a', 'b'), cniVersions: ['0.3.1', '0.4.0', '1.0.0'] }
  assert.is(await chainVersion(conf, plugins.options), '0.4.0')
  const old = { ...network('a', 'old'), cniVersions: ['0.3.1', '0.4.0'] }
  await rejects(chainVersion(old, plugins.options), 'FAILED_PRECONDITION', /old: 0.1.0/)
})

test('CHECK is not done where the configuration disables it or is too old', async ({ plugins }) => {
  plugins.make('a', '')
  const attached = { raw: {}, version: '1.0.0' }
  await checkNetwork(network('a'), attachment, attached, plugins.options)
  await checkNetwork({ ...network('a'), disableCheck: true }, attachment, attached, plugins.options)
  await checkNetwork(network('a'), attachment, { raw: {}, version: '0.3.1' }, plugins.options)
  assert.equal(plugins.names(), ['CHECK a'])
})

test('GC tells the valid attachments, from 1.1.0 on', async ({ plugins }) => {
  plugins.make('a', '')
  const valid = [{ containerID: 'c1', ifname: 'eth0' }]
  assert.equal(await collectNetwork(network('a'), valid, plugins.options), [])
  const newer = { ...network('a'), cniVersion: '1.1.0', cniVersions: ['1.1.0'] }
  assert.equal(await collectNetwork(newer, valid, plugins.options), [])
  assert.equal(plugins.names(), ['GC a'])
  assert.equal(plugins.calls()[0]?.conf['cni.dev/valid-attachments'], valid)
})

test('a plugin sees nothing of our environment', async ({ plugins }) => {
  plugins.make(
    'a',
    `printf '{"env":"%s"}' "$(env | cut -d= -f1 | grep -v '^_$' | sort | tr '\\n' ' ')"`,
  )
  process.env['SECRET'] = 'x'
  const call = {
    command: 'ADD',
    type: 'a',
    config: {},
    containerId: 'c',
    netns: 'n',
    ifname: 'e',
  } as const
  assert.equal(await callPlugin({ ...call, ...plugins.options }), {
    env: 'CNI_COMMAND CNI_CONTAINERID CNI_IFNAME CNI_NETNS CNI_PATH PATH PWD ',
  })
})

test('a plugin that hangs is killed with what it started', async ({ plugins }) => {
  plugins.make('a', `sleep 60 & echo $! > '${plugins.directory}/pid'; wait`)
  const call = { command: 'ADD', type: 'a', config: {}, timeoutMs: 300 } as const
  await rejects(callPlugin({ ...call, ...plugins.options }), 'DEADLINE_EXCEEDED', /300 ms/)
  const pid = Number(readFileSync(join(plugins.directory, 'pid'), 'utf8'))
  await eventually(`process ${pid} is gone`, () => isGone(pid))
})

test('a plugin that writes without end is killed', async ({ plugins }) => {
  plugins.make('a', 'exec yes')
  const call = { command: 'ADD', type: 'a', config: {} } as const
  await rejects(callPlugin({ ...call, ...plugins.options }), 'RESOURCE_EXHAUSTED', /1048576/)
})

test('a plugin that does not read its configuration is no failure', async ({ plugins }) => {
  const path = join(plugins.directory, 'a')
  writeFileSync(path, '#!/bin/sh\nexec 0<&-\necho "{}"\n')
  chmodSync(path, 0o755)
  const config = { filler: 'x'.repeat(1024 * 1024) }
  const call = { command: 'ADD', type: 'a', config } as const
  assert.equal(await callPlugin({ ...call, ...plugins.options }), {})
})

test('an attachment is remembered until its DEL has succeeded', async ({ plugins }) => {
  plugins.make('a', RESULT(7))
  const conf = network('a')
  const { results, options } = plugins
  await attachNetwork(results, conf, attachment, options)
  assert.equal(attachedContainers(results), ['c1'])
  assert.is(attachedNetworks(results, 'c1')[0]?.result.ips[0]?.address, '10.0.0.7/24')
  plugins.make('a', FAIL)
  assert.is((await detachNetworks(results, 'c1', options)).length, 1)
  assert.equal(attachedContainers(results), ['c1'])
  plugins.make('a')
  assert.equal(await detachNetworks(results, 'c1', { ...options, netnsGone: true }), [])
  assert.equal(attachedContainers(results), [])
  assert.equal(await detachNetworks(results, 'c1', options), [])
  const last = plugins.calls().at(-1)
  assert.is(last?.call, 'DEL a')
  assert.equal((last?.conf['prevResult'] as { ips: unknown })?.ips, [{ address: '10.0.0.7/24' }])
})

test('what a killed ADD left is taken back by the next DEL', async ({ plugins }) => {
  plugins.make(
    'a',
    `cp '${plugins.results}/c1@eth0.json' '${plugins.directory}/seen'; ${RESULT(1)}`,
  )
  const { results, options } = plugins
  await attachNetwork(results, network('a'), attachment, options)
  // As it was while the plugin ran: that is what a kill would have left.
  writeFileSync(join(results, 'c1@eth0.json'), readFileSync(join(plugins.directory, 'seen')))
  assert.equal(attachedNetworks(results, 'c1'), [])
  plugins.make('a')
  assert.equal(await detachNetworks(results, 'c1', options), [])
  assert.equal(plugins.names(), ['ADD a', 'DEL a'])
  assert.equal(attachedContainers(results), [])
})

test('a half-written record goes with the next DEL of its container, and of no other', async ({
  plugins,
}) => {
  plugins.make('a')
  await attachNetwork(plugins.results, network('a'), attachment, plugins.options)
  const left = join(plugins.results, 'c1@eth0.json.tmp-0123456789ab')
  const others = join(plugins.results, 'c10@eth0.json.tmp-0123456789ab')
  for (const path of [left, others]) writeFileSync(path, '{"version"')
  await detachNetworks(plugins.results, 'c1', plugins.options)
  assert.equal(readdirSync(plugins.results), ['c10@eth0.json.tmp-0123456789ab'])
})

test('what keeps ADD and DEL from being called is told once, and first', async ({ plugins }) => {
  const failed = await addNetwork(network('absent'), attachment, plugins.options).then(
    () => '',
    describe,
  )
  assert.match(failed, /^cannot attach container c1 to network net: CNI plugin "absent" is in/)
  assert.is(failed.match(/absent/g)?.length, 1)
})

test('a failed attachment leaves no record', async ({ plugins }) => {
  plugins.make('a', `case $CNI_COMMAND in ADD) ${FAIL};; esac`)
  await rejects(
    attachNetwork(plugins.results, network('a'), attachment, plugins.options),
    'UNAVAILABLE',
    /cannot attach container c1 to network net: /,
  )
  assert.equal(attachedContainers(plugins.results), [])
})

for (const [name, change] of [
  ['an id with a slash', { containerId: 'a/b' }],
  ['a long interface name', { ifname: 'sixteen-letters-' }],
  ['no namespace', { netns: '' }],
  ['a bad argument', { args: ['A'] }],
  ['an address that is none', { capabilities: { ips: ['10.0.0/24'] } }],
] as const) {
  test(`${name} is refused`, async ({ plugins }) => {
    const conf = network({ type: 'a', capabilities: { ips: true } })
    await rejects(
      addNetwork(conf, { ...attachment, ...change } as Attachment, plugins.options),
      'INVALID_ARGUMENT',
      /./,
    )
  })
}

async function rejects(promise: Promise<unknown>, code: string, message: RegExp): Promise<void> {
  try {
    await promise
  } catch (error) {
    const { describe } = await import('../../../src/base/fault.ts')
    assert.is((error as { code?: string }).code, code)
    assert.match(describe(error), message)
    return
  }
  assert.unreachable('it succeeded')
}

/** Dead, or a zombie that nobody has reaped yet. */
function isGone(pid: number): boolean {
  try {
    return / [ZX] /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'))
  } catch {
    return true
  }
}

test.run()
