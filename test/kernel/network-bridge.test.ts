/**
 * The built-in network with the real plugins. The file runs itself again in a network namespace of its own, which plays the host: bridge,
 * rules and sysctls are made there and vanish with it.
 */
import { execFileSync, spawn } from 'node:child_process'
import { readdirSync, rmSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { addNetwork, deleteNetwork } from '../../src/network/chain.ts'
import { isIdle } from '../../src/network/idle.ts'
import {
  attachedContainers,
  attachedNetworks,
  attachNetwork,
  BUILT_IN,
  type CapabilityArgs,
  checkNetworks,
  detachNetworks,
  type NetworkConf,
} from '../../src/network/index.ts'
import { callPlugin, PLUGIN_DIRECTORIES } from '../../src/network/plugin.ts'
import { parseResult } from '../../src/network/result.ts'
import { eventually } from '../lib/eventually.ts'
import { needs } from '../lib/needs.ts'
import { enterNetworkNamespace, hear, Namespace } from '../lib/network-namespace.ts'
import { testDirectory } from '../lib/traces.ts'

needs('root', 'program:unshare', 'program:nsenter', 'program:ip', 'program:iptables')
needs('file:/usr/lib/cni/bridge', 'file:/usr/lib/cni/portmap', 'file:/usr/lib/cni/firewall')

enterNetworkNamespace(import.meta.url)

const ARGS = ['IgnoreUnknown=1']

interface Context {
  directory: string
  results: string
  conf: NetworkConf
  namespaces: Namespace[]
}

const test = suite<Context>('network-bridge')

test.before.each((context) => {
  context.directory = testDirectory()
  context.results = join(context.directory, 'results')
  context.namespaces = []
  // The leases of the machine's containers are none of ours.
  const [bridge, ...others] = BUILT_IN.plugins
  const ipam = { ...(bridge?.['ipam'] as object), dataDir: join(context.directory, 'leases') }
  context.conf = { ...BUILT_IN, plugins: [{ ...bridge, type: 'bridge', ipam }, ...others] }
})

test.after.each(async (context) => {
  for (const namespace of context.namespaces) await namespace.end()
  rmSync(context.directory, { recursive: true })
})

async function namespace(context: Context): Promise<Namespace> {
  const made = new Namespace()
  context.namespaces.push(made)
  return made.open()
}

function attach(context: Context, id: string, netns: string, capabilities: CapabilityArgs = {}) {
  const attachment = {
    containerId: id,
    netns,
    ifname: 'eth0',
    args: ARGS,
    capabilities,
  }
  return attachNetwork(context.results, context.conf, attachment)
}

/** Everything that a container's attachment can leave behind in its host. */
function left(context: Context, id: string): string[] {
  const rules = execFileSync('sh', ['-c', 'iptables-save'], { encoding: 'utf8' }).split('\n')
  const ports = execFileSync('bridge', ['-o', 'link'], { encoding: 'utf8' }).split('\n')
  return [
    ...rules.filter((rule) => rule.includes(id)),
    ...ports.filter((port) => port.includes('berth0')),
    ...leases(context),
    ...attachedContainers(context.results),
  ]
}

function leases(context: Context): string[] {
  return readdirSync(join(context.directory, 'leases', 'bridge')).filter((name) =>
    /^10\./.test(name),
  )
}

test('a container gets an address, a default route, and reaches its host', async (context) => {
  const container = await namespace(context)
  const result = await attach(context, 'one', container.path)
  const address = result.ips[0]?.address ?? ''
  assert.match(address, /^10\.89\.\d+\.\d+\/16$/)
  assert.match(container.run('ip', '-o', 'addr', 'show', 'eth0'), new RegExp(`inet ${address} `))
  assert.match(container.run('ip', 'route'), /^default via 10\.89\.0\.1 /)
  assert.ok(
    result.interfaces.some(({ name, sandbox }) => name === 'eth0' && sandbox === container.path),
  )
  await checkNetworks(context.results, 'one')
  const server = createServer((client) => client.end('from the host')).listen(0, '10.89.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = server.address() as AddressInfo
  const script = `require('net').connect(${port},'10.89.0.1').pipe(process.stdout)`
  const heard = new Promise<string>((resolve) => {
    const client = spawn('nsenter', [`--net=${container.path}`, process.execPath, '-e', script])
    let said = ''
    client.stdout.on('data', (data) => {
      said += data
    })
    client.once('close', () => resolve(said))
  })
  assert.is(await heard, 'from the host')
  server.close()
  assert.equal(await detachNetworks(context.results, 'one'), [])
  assert.equal(left(context, 'one'), [])
})

test('two containers reach each other and differ in address', async (context) => {
  const [one, two] = [await namespace(context), await namespace(context)]
  const first = await attach(context, 'one', one.path)
  const second = await attach(context, 'two', two.path)
  assert.is.not(first.ips[0]?.address, second.ips[0]?.address)
  const server = await one.serve(8080)
  const target = first.ips[0]?.address.split('/')[0]
  const script = `require('net').connect(8080,'${target}').pipe(process.stdout)`
  assert.is(two.run(process.execPath, '-e', script), 'from the container')
  server.kill()
  await detachNetworks(context.results, 'one')
  assert.is(attachedNetworks(context.results, 'two').length, 1)
  await detachNetworks(context.results, 'two')
  assert.equal([...left(context, 'one'), ...left(context, 'two')], [])
})

test('a published port leads into the container, from outside and from the host itself', async (context) => {
  const container = await namespace(context)
  const portMappings = [{ hostPort: 18080, containerPort: 8080, protocol: 'tcp' as const }]
  await attach(context, 'web', container.path, { portMappings })
  const server = await container.serve(8080)
  assert.is(await hear('10.89.0.1', 18080), 'from the container')
  assert.is(await hear('127.0.0.1', 18080), 'from the container')
  server.kill()
  assert.equal(await detachNetworks(context.results, 'web'), [])
  assert.equal(left(context, 'web'), [])
  const refused = await hear('10.89.0.1', 18080).catch((error: NodeJS.ErrnoException) => error.code)
  assert.is(refused, 'ECONNREFUSED')
})

test('a container whose namespace is gone gives back its address, ports and firewall rules', async (context) => {
  const container = await namespace(context)
  const portMappings = [{ hostPort: 18081, containerPort: 80, protocol: 'udp' as const }]
  await attach(context, 'gone', container.path, { portMappings })
  await container.end()
  assert.equal(await detachNetworks(context.results, 'gone', { netnsGone: true }), [])
  // The bridge plugin learns the address that it masquerades from the namespace: without one it leaves these rules.
  const masquerade = (trace: string): boolean => /"gone\\"" -j |POSTROUTING/.test(trace)
  await eventually(
    'its end',
    () => left(context, 'gone').filter((t) => !masquerade(t)).length === 0,
  )
})

test('a chain that fails at its end leaves nothing', async (context) => {
  const container = await namespace(context)
  const last = { type: 'bandwidth', ingressRate: -1, ingressBurst: 1 }
  context.conf = { ...context.conf, plugins: [...context.conf.plugins, last] }
  const failed = await attach(context, 'half', container.path).then(
    () => undefined,
    (error: Error) => error.message,
  )
  assert.match(failed ?? '', /cannot attach container half to network bridge/)
  assert.equal(left(context, 'half'), [])
  assert.not(container.run('ip', '-o', 'link').includes('eth0'))
})

test('a fixed address and MAC are given by their capabilities', async (context) => {
  const container = await namespace(context)
  const capabilities = { ips: ['10.89.7.7/16'], mac: '02:42:ac:11:00:07' }
  const result = await attach(context, 'fixed', container.path, capabilities)
  assert.is(result.ips[0]?.address, '10.89.7.7/16')
  assert.match(container.run('ip', 'link', 'show', 'eth0'), /02:42:ac:11:00:07/)
  assert.equal(await detachNetworks(context.results, 'fixed'), [])
})

test('what berth does not start would have handed on what it was given, and changed nothing', async (context) => {
  const container = await namespace(context)
  const place = { containerId: 'one', netns: container.path, ifname: 'eth0', args: ARGS }
  const attachment = { ...place, capabilities: {} }
  const attached = await addNetwork(context.conf, attachment)
  const { result, raw: prevResult, version } = attached
  const seen = () => [
    container.run('ip', '-d', 'addr'),
    container.run('tc', 'qdisc'),
    execFileSync('iptables-save', { encoding: 'utf8' }).replace(/^[#:].*$/gm, ''),
    execFileSync('ip', ['-o', 'link'], { encoding: 'utf8' }).replace(/qlen .*$/gm, ''),
  ]
  const was = seen()
  for (const type of ['portmap', 'bandwidth', 'tuning']) {
    const config = { cniVersion: version, name: context.conf.name, type, prevResult }
    assert.ok(isIdle('ADD', config, ARGS))
    const call = { type, config, directories: PLUGIN_DIRECTORIES, ...place }
    const said = await callPlugin({ command: 'ADD', ...call })
    assert.equal(parseResult(said, version, type), result, type)
    assert.is(await callPlugin({ command: 'DEL', ...call }), undefined)
    assert.equal(seen(), was, type)
  }
  assert.equal(await deleteNetwork(context.conf, attachment, attached), [])
})

test('CHECK finds an address that is gone', async (context) => {
  const container = await namespace(context)
  await attach(context, 'one', container.path)
  container.run('ip', 'addr', 'flush', 'dev', 'eth0')
  let failure = ''
  await checkNetworks(context.results, 'one').catch((error: Error) => {
    failure = error.message
  })
  assert.match(failure, /CNI plugin bridge \(CHECK\) failed/)
  assert.equal(await detachNetworks(context.results, 'one'), [])
})

test.run()
