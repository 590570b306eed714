/**
 * What berth does of the standard CNI plugins without starting them, beside the plugins themselves: the same result, state of kernel, rules and leases,
 * each taking back what the other has made. The file runs itself again in a network namespace of its own, which plays the host.
 */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { addNetwork, checkNetwork, deleteNetwork, pluginConfig } from '../../src/network/chain.ts'
import type { PluginConf } from '../../src/network/conf.ts'
import { planLease, takeLease } from '../../src/network/host-local.ts'
import { isIdle } from '../../src/network/idle.ts'
import { callInProcess } from '../../src/network/in-process.ts'
import { attachedContainers, detachNetworks, type NetworkConf } from '../../src/network/index.ts'
import { callPlugin, PLUGIN_DIRECTORIES, type PluginCall } from '../../src/network/plugin.ts'
import { execute } from '../../src/network/program.ts'
import { eventually } from '../lib/eventually.ts'
import { needs } from '../lib/needs.ts'
import { enterNetworkNamespace, Namespace } from '../lib/network-namespace.ts'
import { testDirectory } from '../lib/traces.ts'

needs('root', 'program:unshare', 'program:nsenter', 'program:ip', 'program:iptables')
needs('file:/usr/lib/cni/bridge', 'file:/usr/lib/cni/host-local', 'file:/usr/lib/cni/firewall')

enterNetworkNamespace(import.meta.url)

const ARGS = ['IgnoreUnknown=1', 'K8S_POD_NAME=web', 'K8S_POD_NAMESPACE=default']
const OURS = 'ours'
const THEIRS = 'theirs'
type Whose = typeof OURS | typeof THEIRS

interface Context {
  directory: string
  one: Namespace
  two: Namespace
}

const test = suite<Context>('network-in-process')

test.before.each(async (context) => {
  context.directory = testDirectory()
  context.one = await new Namespace().open()
  context.two = await new Namespace().open()
})

test.after.each(async (context) => {
  await context.one.end()
  await context.two.end()
  rmSync(context.directory, { recursive: true })
})

let count = 0

/** A network of its own: bridge, range, leases. */
function network(
  context: Context,
  settings: { bridge?: object; ipam?: object; more?: readonly PluginConf[]; version?: string } = {},
): NetworkConf {
  count++
  const version = settings.version ?? '1.0.0'
  return {
    name: `net${count}`,
    cniVersion: version,
    cniVersions: [version],
    disableCheck: false,
    disableGC: false,
    file: '',
    plugins: [
      {
        type: 'bridge',
        bridge: `br${count}`,
        isGateway: true,
        ...settings.bridge,
        ipam: {
          type: 'host-local',
          dataDir: leasesOf(context),
          ranges: [[{ subnet: `10.${90 + count}.0.0/16` }]],
          ...settings.ipam,
        },
      },
      ...(settings.more ?? [{ type: 'firewall' }]),
    ],
  }
}

const leasesOf = ({ directory }: Context): string => join(directory, 'leases')

function attachment(id: string, namespace: Namespace) {
  return { containerId: id, netns: namespace.path, ifname: 'eth0', args: ARGS, capabilities: {} }
}

/** A plugin's call as the chain makes it, done by one of both. */
async function call(
  whose: Whose,
  command: 'ADD' | 'DEL',
  conf: NetworkConf,
  plugin: PluginConf,
  id: string,
  namespace: Namespace,
  previous: unknown,
): Promise<unknown> {
  const at = attachment(id, namespace)
  const config = pluginConfig(conf, plugin, conf.cniVersion, at, previous)
  if (isIdle(command, config, ARGS)) return previous
  const asked: PluginCall = {
    command,
    type: plugin.type,
    config,
    directories: PLUGIN_DIRECTORIES,
    ...at,
  }
  if (whose === THEIRS) return callPlugin(asked)
  const done = await callInProcess(asked)
  assert.ok(done, `${command} of ${plugin.type} is not left to the plugin`)
  return done.said
}

async function add(whose: Whose, conf: NetworkConf, id: string, namespace: Namespace) {
  let raw: unknown
  for (const plugin of conf.plugins)
    raw = await call(whose, 'ADD', conf, plugin, id, namespace, raw)
  return { raw, version: conf.cniVersion }
}

async function remove(
  whose: Whose,
  conf: NetworkConf,
  id: string,
  namespace: Namespace,
  raw: unknown,
): Promise<void> {
  for (const plugin of [...conf.plugins].reverse()) {
    await call(whose, 'DEL', conf, plugin, id, namespace, raw)
  }
}

/** What differs from one attachment to the next. */
function scrub(text: string): string {
  return text
    .replace(/8000\.[0-9a-f:]+/g, 'BRIDGE')
    .replace(/veth[0-9a-f]{8}/g, 'veth')
    .replace(/([0-9a-f]{2}:){5}[0-9a-f]{2}/g, 'MAC')
    .replace(/fe80:[0-9a-f:]+/g, 'fe80')
    .replace(/\/proc\/\d+\/ns\/net/g, 'NETNS')
    .replace(/^\d+: /gm, '')
    .replace(/@if\d+/g, '')
    .replace(/link-netnsid \d+/g, '')
    .replace(/\w+_timer +[\d.]+/g, '')
    .replace(/port_id \w+ port_no \w+ designated_port \d+/g, '')
    .replace(/topology_change_ack \d|designated_cost \d+/g, '')
}

/** Links, addresses, routes, bridge ports with their flags, rules, sysctls and leases. */
function state(context: Context, conf: NetworkConf, namespace: Namespace): Record<string, string> {
  const host = (...command: string[]): string =>
    execFileSync(command[0] ?? '', command.slice(1), { encoding: 'utf8' })
  const bridge = String(conf.plugins[0]?.['bridge'])
  const sysctls =
    'sysctl -a 2>/dev/null | grep -E "ip_forward|conf.(eth0|veth[0-9a-f]{8}).*(accept|arp|dad|forward|disable)" | sort'
  const leases = join(leasesOf(context), conf.name)
  return {
    // Its IPv6 address of the link comes a little later.
    container: scrub(namespace.run('ip', '-d', '-4', 'addr')),
    routes: namespace
      .run('ip', '-4', 'route', 'show', 'table', 'all')
      .split('\n')
      .sort()
      .join('\n'),
    containerSysctls: namespace.run('sh', '-c', sysctls),
    ports: scrub(host('ip', '-d', 'link', 'show', 'master', bridge)),
    bridge: scrub(host('ip', '-4', 'addr', 'show', bridge)),
    sysctls: scrub(host('sh', '-c', sysctls)),
    filter: host('iptables-save', '-t', 'filter').replace(/^#.*$|\[.*\]/gm, ''),
    nat: host('iptables-save', '-t', 'nat').replace(/^#.*$|\[.*\]/gm, ''),
    leases: readdirSync(leases)
      .sort()
      .map((name) => {
        const path = join(leases, name)
        return `${name} ${statSync(path).mode.toString(8)} ${JSON.stringify(readFileSync(path, 'utf8'))}`
      })
      .join('\n'),
  }
}

const masquerade = { ipMasq: true, hairpinMode: true }

const SETTINGS: Readonly<Record<string, Parameters<typeof network>[1]>> = {
  'the common chain': {
    bridge: masquerade,
    ipam: { routes: [{ dst: '0.0.0.0/0' }] },
    more: [
      { type: 'portmap', capabilities: { portMappings: true } },
      { type: 'firewall' },
      { type: 'tuning' },
    ],
  },
  'as Kubernetes has it': {
    bridge: { ...masquerade, isDefaultGateway: true, isGateway: undefined },
    more: [],
  },
  'an MTU, routes, no gateway of the bridge': {
    bridge: { isGateway: false, mtu: 1400 },
    ipam: { routes: [{ dst: '192.0.2.0/24' }, { dst: '198.51.100.0/24', gw: '10.93.0.9' }] },
  },
  'a range within its subnet and a gateway at its end': {
    ipam: {
      ranges: undefined,
      subnet: '10.94.1.0/24',
      rangeStart: '10.94.1.250',
      rangeEnd: '10.94.1.254',
      gateway: '10.94.1.254',
    },
    more: [{ type: 'firewall', backend: 'iptables', ingressPolicy: 'open' }],
  },
  'several ranges of one set': {
    bridge: { isGateway: false },
    ipam: {
      ranges: [
        [
          { subnet: '10.95.8.0/30', rangeStart: '10.95.8.2' },
          { subnet: '10.95.9.0/24', rangeEnd: '10.95.9.9' },
        ],
      ],
    },
  },
  'the results of 0.4.0': { version: '0.4.0', bridge: { isDefaultGateway: true } },
  'the results of 0.3.1': { version: '0.3.1', more: [] },
}

for (const [what, settings] of Object.entries(SETTINGS)) {
  test(`${what}: as the plugins do it, and each takes back the other's`, async (context) => {
    const conf = network(context, settings)
    // The first container of a network is the plugins': they make bridge and chains.
    const first = await add(THEIRS, conf, 'first', context.one)
    const leases = join(leasesOf(context), conf.name)
    const saved = `${leases}.saved`
    cpSync(leases, saved, { recursive: true })
    const seen: Record<
      string,
      { result: string; checked: string; added: unknown; removed: unknown }
    > = {}
    for (const [adds, removes] of [
      [THEIRS, THEIRS],
      [OURS, OURS],
      [OURS, THEIRS],
      [THEIRS, OURS],
    ] as const) {
      rmSync(leases, { recursive: true })
      cpSync(saved, leases, { recursive: true })
      const attached = await add(adds, conf, 'one', context.two)
      const result = JSON.stringify(sorted(JSON.parse(scrub(JSON.stringify(attached.raw)))))
      // The plugin waits for the host's side only.
      await eventually('its link', () => /eth0.* state UP/.test(context.two.run('ip', 'link')))
      const added = state(context, conf, context.two)
      // CHECK is always the plugins'; of routes without a gateway of their own the old ones say that these are not there.
      const checked = await checkNetwork(conf, attachment('one', context.two), attached).then(
        () => 'as it was attached',
        (error: Error) => scrub(error.message),
      )
      await remove(removes, conf, 'one', context.two, attached.raw)
      const removed = state(context, conf, context.two)
      seen[`${adds} ${removes}`] = { result, checked, added, removed }
      // Once more is no failure.
      assert.equal(await deleteNetwork(conf, attachment('one', context.two), attached), [])
    }
    const [theirs, ...others] = Object.entries(seen)
    for (const [how, one] of others) assert.equal(one, theirs?.[1], how)
    await remove(THEIRS, conf, 'first', context.one, first.raw)
    execFileSync('ip', ['link', 'delete', String(conf.plugins[0]?.['bridge'])])
  })
}

function sorted(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return value.map(sorted)
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, one]) => [key, sorted(one)]),
  )
}

test('a bridge that the network does not yet have is the plugin’s to make, and the chain goes on', async (context) => {
  const conf = network(context, { bridge: masquerade })
  const attached = await addNetwork(conf, attachment('one', context.one))
  const again = await addNetwork(conf, attachment('two', context.two))
  assert.equal(await deleteNetwork(conf, attachment('one', context.one), attached), [])
  assert.equal(await deleteNetwork(conf, attachment('two', context.two), again), [])
  assert.equal(taken(context, conf), [])
})

function taken(context: Context, conf: NetworkConf): string[] {
  return readdirSync(join(leasesOf(context), conf.name)).filter((name) => /^\d/.test(name))
}

test('fifty at once, half of them the plugin’s: no address twice', async (context) => {
  const conf = network(context)
  const ipam = conf.plugins[0]?.['ipam']
  const plan = planLease(conf.name, ipam, undefined)
  assert.ok(plan)
  const ids = Array.from({ length: 50 }, (_, i) => `c${i}`)
  const addresses = await Promise.all(
    ids.map(async (id, i) => {
      if (i % 2 === 0) {
        const lease = await takeLease(plan, { id, ifname: 'eth0' }, { mode: 0o600 })
        return lease.path
      }
      const config = { cniVersion: '1.0.0', name: conf.name, type: 'bridge', ipam }
      const at = { containerId: id, netns: '/none', ifname: 'eth0', args: ARGS }
      const call = { command: 'ADD', type: 'host-local', directories: PLUGIN_DIRECTORIES } as const
      const said = (await callPlugin({ ...call, config, ...at })) as { ips: { address: string }[] }
      return join(plan.directory, said.ips[0]?.address.split('/')[0] ?? '')
    }),
  )
  assert.is(new Set(addresses).size, 50)
  for (const [i, path] of addresses.entries()) {
    assert.is(readFileSync(path, 'utf8'), `c${i}\r\neth0`)
  }
})

/** What a chain's ADD fails with, and that nothing is left of it. */
async function failure(
  context: Context,
  conf: NetworkConf,
  id: string,
  inProcess: boolean,
): Promise<{ message: string; before: unknown; after: unknown }> {
  const before = state(context, conf, context.two)
  const message = await addNetwork(conf, attachment(id, context.two), { inProcess }).then(
    () => 'no failure',
    (error: Error) => `${error.message}: ${(error.cause as Error | undefined)?.message}`,
  )
  return { message, before, after: state(context, conf, context.two) }
}

test('where no address is left, both say the same, and nothing is left', async (context) => {
  const conf = network(context, {
    bridge: masquerade,
    ipam: {
      ranges: [[{ subnet: '10.96.0.0/24', rangeStart: '10.96.0.5', rangeEnd: '10.96.0.5' }]],
    },
  })
  const attached = await addNetwork(conf, attachment('one', context.one))
  const theirs = await failure(context, conf, 'two', false)
  assert.match(theirs.message, /no IP addresses available in range set: 10\.96\.0\.5-10\.96\.0\.5/)
  const ours = await failure(context, conf, 'two', true)
  assert.equal(ours, theirs)
  assert.equal(ours.after, ours.before)
  await deleteNetwork(conf, attachment('one', context.one), attached)
})

test('a second ADD of a container is refused in the same words, and the first one stands', async (context) => {
  const conf = network(context, { more: [] })
  const attached = await addNetwork(conf, attachment('one', context.one))
  const again = (inProcess: boolean): Promise<string> =>
    callPluginOrNot(conf, inProcess).then(
      () => 'no failure',
      (error: Error) => error.message,
    )
  const callPluginOrNot = async (conf: NetworkConf, inProcess: boolean): Promise<unknown> => {
    const [plugin] = conf.plugins
    const at = attachment('one', context.one)
    const config = pluginConfig(conf, plugin as PluginConf, conf.cniVersion, at, undefined)
    const asked: PluginCall = {
      command: 'ADD',
      type: 'bridge',
      config,
      directories: PLUGIN_DIRECTORIES,
      ...at,
    }
    const done = inProcess ? await callInProcess(asked) : undefined
    return done ? done.said : callPlugin(asked)
  }
  assert.is(await again(true), await again(false))
  assert.is(taken(context, conf).length, 1)
  assert.match(context.one.run('ip', '-o', 'addr', 'show', 'eth0'), /inet 10\./)
  assert.equal(await deleteNetwork(conf, attachment('one', context.one), attached), [])
})

const HOSTILE: Readonly<
  Record<string, { conf?: object; bridge?: object; ipam?: object; id?: string }>
> = {
  'a name that leads elsewhere': { conf: { name: '../x' } },
  'a range without end': {
    ipam: { ranges: [[{ subnet: '0.0.0.0/0' }]], type: 'host-local', rangeStart: 7 },
  },
  'a subnet with host bits': { ipam: { ranges: [[{ subnet: '10.1.2.3/16' }]] } },
  'a subnet too small': { ipam: { ranges: [[{ subnet: '10.1.2.0/31' }]] } },
  'ranges that overlap': {
    ipam: { ranges: [[{ subnet: '10.1.0.0/16' }, { subnet: '10.1.2.0/24' }]] },
  },
  'a start outside of the subnet': {
    ipam: { ranges: [[{ subnet: '10.1.2.0/24', rangeStart: '10.1.3.1' }]] },
  },
  'no ranges': { ipam: { ranges: [] } },
  'an address of no family': { ipam: { ranges: [[{ subnet: 'x/24' }]] } },
  'a bridge with a slash': { bridge: { bridge: 'a/b' } },
  'a negative MTU': { bridge: { mtu: 1.5 } },
  'hairpin and promiscuous mode': { bridge: { hairpinMode: true, promiscMode: true } },
  'a gateway flag that is text': { bridge: { isGateway: 'yes' } },
  'a VLAN beyond all': { bridge: { vlan: 9999 } },
}

for (const [what, { conf: more, bridge, ipam }] of Object.entries(HOSTILE)) {
  test(`hostile: ${what} is the plugin's to refuse`, async (context) => {
    const conf = {
      ...network(context, { more: [], ...(bridge ? { bridge } : {}), ...(ipam ? { ipam } : {}) }),
      ...more,
    }
    const [plugin] = conf.plugins
    const at = attachment('one', context.one)
    const config = pluginConfig(conf, plugin as PluginConf, conf.cniVersion, at, undefined)
    const asked: PluginCall = {
      command: 'ADD',
      type: 'bridge',
      config,
      directories: PLUGIN_DIRECTORIES,
      ...at,
    }
    assert.is(await callInProcess(asked), undefined)
    assert.is(await callInProcess({ ...asked, command: 'DEL' }), undefined)
    const refused = (inProcess: boolean): Promise<string> =>
      addNetwork(conf, at, { inProcess }).then(
        () => 'no failure',
        (error: Error) => `${error.message}: ${(error.cause as Error | undefined)?.message}`,
      )
    const [ours, theirs] = [await refused(true), await refused(false)]
    assert.is(ours, theirs)
    assert.match(ours, /CNI plugin bridge \(ADD\) failed/)
  })
}

test('hostile: a previous result that is none, and names that lead elsewhere, are the plugin’s to refuse', async (context) => {
  const at = attachment('one', context.one)
  const base = { cniVersion: '1.0.0', name: 'net', type: 'firewall' }
  const ip = { address: '10.1.2.3/24', interface: 0 }
  for (const prevResult of [
    undefined,
    'x',
    { cniVersion: '1.0.0', ips: 'x', dns: {} },
    { cniVersion: '1.0.0', ips: [{ ...ip, address: '10.1.2.3' }], dns: {} },
    { cniVersion: '1.0.0', ips: [{ ...ip, address: '10.1.2.3/24 -j DROP' }], dns: {} },
    { cniVersion: '1.0.0', ips: [{ ...ip, address: 'fd00::1/64' }], dns: {} },
    { cniVersion: '1.0.0', ips: [ip, ip], dns: {} },
    { cniVersion: '0.4.0', ips: [ip], dns: {} },
    { cniVersion: '1.0.0', ips: [ip], dns: {}, more: 1 },
  ]) {
    const config = { ...base, ...(prevResult === undefined ? {} : { prevResult }) }
    const asked: PluginCall = {
      command: 'ADD',
      type: 'firewall',
      config,
      directories: PLUGIN_DIRECTORIES,
      ...at,
    }
    assert.is(await callInProcess(asked), undefined, JSON.stringify(prevResult))
  }
  const conf = network(context, { more: [] })
  const config = pluginConfig(conf, conf.plugins[0] as PluginConf, '1.0.0', at, undefined)
  const asked: PluginCall = {
    command: 'ADD',
    type: 'bridge',
    config,
    directories: PLUGIN_DIRECTORIES,
    ...at,
  }
  for (const odd of [
    { containerId: '../x' },
    { ifname: '../x' },
    { args: ['IgnoreUnknown=1', 'IP=10.1.2.3'] },
    { args: ['X=1'] },
  ]) {
    assert.is(await callInProcess({ ...asked, ...odd }), undefined, JSON.stringify(odd))
  }
})

test('a program of a standard name that is not the standard one is executed', async (context) => {
  const plugins = join(context.directory, 'plugins')
  mkdirSync(plugins)
  const script =
    '#!/bin/sh\ncat >/dev/null\necho \'{"cniVersion":"1.0.0","ips":[{"address":"192.0.2.7/24"}]}\'\n'
  for (const type of ['bridge', 'host-local'])
    writeFileSync(join(plugins, type), script, { mode: 0o755 })
  const conf = network(context, { more: [] })
  const { result } = await addNetwork(conf, attachment('one', context.one), {
    directories: [plugins],
  })
  assert.is(result.ips[0]?.address, '192.0.2.7/24')
})

test('a caller that has gone, and a time that is over, end it as they end a plugin', async (context) => {
  const conf = network(context, { more: [] })
  const first = await addNetwork(conf, attachment('first', context.one))
  const lock = spawn(
    'flock',
    [join(leasesOf(context), conf.name, 'lock'), 'sh', '-c', 'echo locked; sleep 100'],
    { detached: true },
  )
  await once(lock.stdout, 'data')
  const at = attachment('one', context.two)
  const config = pluginConfig(conf, conf.plugins[0] as PluginConf, '1.0.0', at, undefined)
  const asked: PluginCall = {
    command: 'ADD',
    type: 'bridge',
    config,
    directories: PLUGIN_DIRECTORIES,
    ...at,
  }
  const said = async (more: object): Promise<string> =>
    callInProcess({ ...asked, ...more }).then(
      () => 'no failure',
      (error: Error) => error.message,
    )
  assert.is(await said({ timeoutMs: 300 }), 'CNI plugin bridge (ADD) did not end within 300 ms')
  assert.is(
    await said({ signal: AbortSignal.timeout(100) }),
    'CNI plugin bridge (ADD) was cancelled',
  )
  process.kill(-(lock.pid ?? 0))
  // What is left of it goes with the DEL that follows in a chain.
  assert.equal(await deleteNetwork(conf, at, undefined), [])
  assert.not(context.two.run('ip', '-o', 'link').includes('eth0'))
  assert.equal(await deleteNetwork(conf, attachment('first', context.one), first), [])
  assert.equal(taken(context, conf), [])
})

test('rules that cannot be taken back are told, and link and address are gone all the same', async (context) => {
  const conf = network(context, { bridge: masquerade, more: [] })
  const first = await addNetwork(conf, attachment('first', context.one))
  const said: string[] = []
  for (const inProcess of [false, true]) {
    const attached = await addNetwork(conf, attachment('one', context.two))
    const rules = execFileSync('iptables-save', { encoding: 'utf8' })
    const chain = / id: \\"one\\"" -j (CNI-\w+)/.exec(rules)?.[1] ?? ''
    execFileSync('iptables', ['-t', 'nat', '-A', 'POSTROUTING', '-d', '192.0.2.1', '-j', chain])
    const at = attachment('one', context.two)
    const failures = await deleteNetwork(conf, at, attached, { inProcess })
    said.push(...failures.map(({ message }) => message))
    assert.not(context.two.run('ip', '-o', 'link').includes('eth0'))
    assert.is(taken(context, conf).length, 1)
    execFileSync('iptables', ['-t', 'nat', '-D', 'POSTROUTING', '-d', '192.0.2.1', '-j', chain])
    const jump = /-A (POSTROUTING .*id: \\"one\\"".*)/.exec(
      execFileSync('iptables-save', { encoding: 'utf8' }),
    )
    if (jump) execFileSync('sh', ['-c', `iptables -t nat -D ${jump[1]}`])
    execFileSync('sh', ['-c', `iptables -t nat -F ${chain}; iptables -t nat -X ${chain}`])
  }
  assert.is(said.length, 2, said.join('\n'))
  for (const message of said) assert.match(message, /CNI plugin bridge \(DEL\).* failed/)
  assert.equal(await deleteNetwork(conf, attachment('first', context.one), first), [])
})

test('rules of an address that no interface has any more go with its lease', async (context) => {
  const conf = network(context, { bridge: masquerade, more: [] })
  const first = await addNetwork(conf, attachment('first', context.one))
  const rules = (): string => execFileSync('iptables-save', ['-t', 'nat'], { encoding: 'utf8' })
  const before = rules().replace(/^#.*$|\[.*\]/gm, '')
  const at = attachment('one', context.two)
  // An ADD that was ended between its rules and the address, or before the interface was there; a namespace that is gone.
  for (const [netns, ...command] of [
    [at.netns, 'ip', 'addr', 'flush', 'dev', 'eth0'],
    [at.netns, 'ip', 'link', 'delete', 'eth0'],
    ['', 'true'],
  ]) {
    const attached = await addNetwork(conf, at)
    assert.match(rules(), /id: \\"one\\"/)
    context.two.run(command[0] ?? '', ...command.slice(1))
    assert.equal(await deleteNetwork(conf, { ...at, netns: netns ?? '' }, attached), [])
    assert.is(rules().replace(/^#.*$|\[.*\]/gm, ''), before, command.join(' '))
    assert.is(taken(context, conf).length, 1)
  }
  context.two.run('ip', 'link', 'delete', 'eth0')
  assert.equal(await deleteNetwork(conf, attachment('first', context.one), first), [])
})

test('a version that a plugin does not speak is the plugin’s to refuse, and nothing is left', async (context) => {
  // The plugin firewall speaks 0.4.0 and newer.
  const conf = network(context, { version: '0.3.1', bridge: masquerade })
  const first = await addNetwork(
    { ...conf, plugins: conf.plugins.slice(0, 1) },
    attachment('first', context.one),
  )
  const [ours, theirs] = [
    await failure(context, conf, 'one', true),
    await failure(context, conf, 'one', false),
  ]
  assert.is(ours.message, theirs.message)
  assert.match(ours.message, /incompatible CNI versions/)
  await deleteNetwork(
    { ...conf, plugins: conf.plugins.slice(0, 1) },
    attachment('first', context.one),
    first,
  )
})

test('an address is not given back before the rules of it are gone', async (context) => {
  const conf = network(context, { more: [] })
  const first = await addNetwork(conf, attachment('first', context.one))
  const at = attachment('one', context.two)
  await addNetwork(conf, at)
  const config = pluginConfig(conf, conf.plugins[0] as PluginConf, '1.0.0', at, undefined)
  let end = (): void => {}
  const after = new Promise<void>((resolve) => {
    end = resolve
  })
  const asked = { command: 'DEL', type: 'bridge', config, directories: PLUGIN_DIRECTORIES } as const
  const done = callInProcess({ ...asked, ...at, after })
  await eventually('the link is gone', () => !context.two.run('ip', 'link').includes('eth0'))
  assert.is(taken(context, conf).length, 2)
  end()
  assert.equal(await done, { said: undefined })
  assert.is(taken(context, conf).length, 1)
  assert.equal(await deleteNetwork(conf, attachment('first', context.one), first), [])
})

test('a program that has read its input and more is done, one that has not is as it ends', async (context) => {
  const go = join(context.directory, 'go')
  const run = (script: string) =>
    execute('/bin/sh', 'a script', {
      args: ['-c', script],
      env: ['PATH=/bin:/usr/bin'],
      input: 'x\n',
      tail: '#\n',
      timeoutMs: 30_000,
    })
  const ended = join(context.directory, 'ended')
  const script = `read a; read b; while ! [ -e ${go} ]; do sleep 0.05; done; : > ${ended}`
  assert.is((await run(script)).code, 0)
  assert.not(existsSync(ended))
  writeFileSync(go, '')
  await eventually('its end', () => existsSync(ended))
  assert.is((await run('read a; exit 3')).code, 3)
  assert.is((await run('exit 4')).code, 4)
  assert.is((await run('exec <&-; sleep 0.2; exit 5')).code, 5)
})

/** A program that attaches the container and waits. */
const ATTACH = `
import { attachNetwork } from ${JSON.stringify(new URL('../../src/network/index.js', import.meta.url).href)}
const [directory, conf, attachment] = process.argv.slice(1).map((text, i) => i === 0 ? text : JSON.parse(text))
console.log('begins')
await attachNetwork(directory, conf, attachment)
console.log('attached')
`

test('killed at any moment, the next DEL takes all of it back', async (context) => {
  const conf = network(context, { bridge: masquerade })
  const first = await add(THEIRS, conf, 'first', context.one)
  const before = state(context, conf, context.two)
  const results = join(context.directory, 'results')
  const at = attachment('one', context.two)
  for (let i = 0; i < 8; i++) {
    const args = [
      '--input-type=module',
      '-e',
      ATTACH,
      results,
      JSON.stringify(conf),
      JSON.stringify(at),
    ]
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
    await once(child.stdout, 'data')
    await new Promise((resolve) => setTimeout(resolve, i * 3))
    child.kill('SIGKILL')
    await once(child, 'exit')
    // What a killed daemon has started ends by itself, or by endOrphans().
    await new Promise((resolve) => setTimeout(resolve, 50))
    assert.equal(await detachNetworks(results, 'one'), [])
    assert.equal(attachedContainers(results), [])
    const { leases, ...after } = state(context, conf, context.two)
    const { leases: _, ...wanted } = before
    assert.equal(after, wanted, `killed ${i * 3} ms after the start`)
    assert.not(/10\.\d+\.\d+\.\d+ .*"one/.test(leases ?? ''))
  }
  await remove(THEIRS, conf, 'first', context.one, first.raw)
})

test('nothing is left behind', () => {
  const rules = execFileSync('iptables-save', { encoding: 'utf8' })
  assert.not.match(rules, /-A (POSTROUTING|CNI-FORWARD -[ds])/)
  assert.not.match(execFileSync('ip', ['-o', 'link'], { encoding: 'utf8' }), /veth/)
})

test.run()
