/** Networks of pods with Debian's plugins, in a network namespace that plays the node. */
import { execFileSync, spawn } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { createConnection } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { describe } from '../../src/base/fault.ts'
import { attachedContainers } from '../../src/network/index.ts'
import { Networks, type NetworksOptions } from '../../src/pod/network.ts'
import { writePodEtc } from '../../src/pod/network-etc.ts'
import type { PodSandboxConfig } from '../../src/spec/cri.ts'
import { eventually } from '../lib/eventually.ts'
import { needs } from '../lib/needs.ts'
import { enterNetworkNamespace, hear, Namespace } from '../lib/network-namespace.ts'
import { podConfig } from '../lib/pod-config.ts'
import { testDirectory } from '../lib/traces.ts'

needs('root', 'program:unshare', 'program:nsenter', 'program:ip', 'program:iptables', 'program:tc')
needs('file:/usr/lib/cni/bridge', 'file:/usr/lib/cni/portmap', 'file:/usr/lib/cni/bandwidth')
enterNetworkNamespace(import.meta.url)

const REAL = '/usr/lib/cni'

interface Context {
  directory: string
  networks: Networks
  warnings: string[]
  pods: Namespace[]
}

const test = suite<Context>('pod-network')

test.before.each((context) => {
  context.directory = testDirectory()
  for (const name of ['net.d', 'bin']) mkdirSync(join(context.directory, name))
  context.pods = []
  context.warnings = []
  configure(context)
  context.networks = new Networks(options(context))
})

test.after.each(async (context) => {
  context.networks.close()
  for (const pod of context.pods) await pod.end()
  rmSync(context.directory, { recursive: true })
})

function options(context: Context): NetworksOptions {
  return {
    directory: join(context.directory, 'records'),
    confDirectory: join(context.directory, 'net.d'),
    pluginDirectories: [join(context.directory, 'bin'), REAL],
    timeoutMs: 20_000,
    warn: (message) => context.warnings.push(message),
  }
}

/** What a node with a bridge has: both families, host ports, limits; `last` comes at the end of the chain. */
function configure(context: Context, ...last: object[]): void {
  const ipam = {
    type: 'host-local',
    // The leases of the machine's pods are none of ours.
    dataDir: join(context.directory, 'leases'),
    ranges: [[{ subnet: '10.88.0.0/16' }], [{ subnet: 'fd00:88::/64' }]],
    routes: [{ dst: '0.0.0.0/0' }, { dst: '::/0' }],
  }
  const plugins = [
    { type: 'bridge', bridge: 'pods0', isGateway: true, ipMasq: true, hairpinMode: true, ipam },
    { type: 'portmap', capabilities: { portMappings: true } },
    { type: 'firewall' },
    { type: 'bandwidth', capabilities: { bandwidth: true } },
    { type: 'tuning', sysctl: { 'net.ipv4.conf.eth0.arp_filter': '1' } },
    ...last,
  ]
  const file = join(context.directory, 'net.d', '10-pods.conflist')
  writeFileSync(file, JSON.stringify({ cniVersion: '1.0.0', name: 'pods', plugins }))
}

/** A plugin of the node that no package has. */
function plugin(context: Context, type: string, script: string): void {
  const path = join(context.directory, 'bin', type)
  writeFileSync(path, `#!/bin/sh\n${script}\n`)
  chmodSync(path, 0o755)
}

/** Gives on what the plugins before it gave. */
const PASS = `sed 's/.*"prevResult":\\({.*}\\)}$/\\1/'`

async function namespace(context: Context, flags: readonly string[] = []): Promise<Namespace> {
  const made = new Namespace(flags)
  context.pods.push(made)
  return made.open()
}

const pod = (id: string, change: Partial<PodSandboxConfig> = {}) => ({
  id,
  config: podConfig(change),
})

/** All that a pod's attachment can leave behind on its node. */
function left(context: Context, id: string): string[] {
  const save = 'iptables-save; ip6tables-save'
  const rules = execFileSync('sh', ['-c', save], { encoding: 'utf8' }).split('\n')
  const links = execFileSync('ip', ['-o', 'link'], { encoding: 'utf8' }).split('\n')
  const leases = join(context.directory, 'leases', 'pods')
  return [
    ...rules.filter((rule) => rule.includes(id) || /dport 18\d\d\d/.test(rule)),
    ...links.filter((link) => /veth|bwp|ifb/.test(link)),
    ...(existsSync(leases) ? readdirSync(leases).filter((name) => /^10\.|^fd/.test(name)) : []),
    ...attachedContainers(join(context.directory, 'records')),
  ]
}

const notTakenDown = (context: Context): string[] =>
  context.warnings.filter((warning) => warning.includes('not wholly taken down'))

/** The bridge plugin learns the addresses that it masquerades from the namespace: without one it leaves their rules. */
const masquerade = (trace: string): boolean => /\\"[\w-]+\\"" -j |POSTROUTING/.test(trace)

/** The kernel has seen that nobody else has the node's address: until then it sends with another one. */
async function settled(): Promise<void> {
  await eventually(
    'its address',
    () =>
      !execFileSync('ip', ['-6', 'addr', 'show', 'pods0'], { encoding: 'utf8' }).includes(
        'tentative',
      ),
  )
}

test('a pod has an address of each family, reaches its node by both, and gives them back', async (context) => {
  const { networks } = context
  const box = await namespace(context)
  assert.equal(await networks.ready(), { ready: true, reason: '', message: '' })
  const given = await networks.attach(pod('both'), { netns: box.path })
  assert.match(given.addresses.join(' '), /^10\.88\.0\.\d+ fd00:88::[0-9a-f]+$/)
  const [four = '', six = ''] = given.addresses
  const shown = box.run('ip', '-o', 'addr', 'show', 'eth0')
  assert.ok(shown.includes(` ${four}/16 `) && shown.includes(` ${six}/64 `))
  assert.is(box.run('cat', '/proc/sys/net/ipv4/conf/eth0/arp_filter').trim(), '1')
  const server = await box.serve(8080)
  assert.is(await hear(four, 8080), 'from the container')
  await settled()
  assert.is(await hear(six, 8080), 'from the container')
  server.kill()
  assert.equal(networks.of('both')?.addresses, given.addresses)
  await networks.detach('both', { netns: box.path })
  assert.equal(left(context, 'both'), [])
  assert.equal(notTakenDown(context), [])
  await networks.detach('both', { netns: box.path })
  await networks.detach('both', { netns: '' })
})

test('the primary address is of the family that the node prefers', async (context) => {
  const { networks } = context
  networks.configure({ ...options(context), addressPreference: 'ipv6' })
  const box = await namespace(context)
  const given = await networks.attach(pod('six'), { netns: box.path })
  assert.match(given.addresses.join(' '), /^fd00:88::[0-9a-f]+ 10\.88\.0\.\d+$/)
  await networks.detach('six', { netns: box.path })
})

test('a host port leads into the pod, from both families, at the address that was asked for', async (context) => {
  const { networks } = context
  const box = await namespace(context)
  const port = { protocol: 'TCP' as const, containerPort: 8080, hostPort: 18080, hostIp: '' }
  const portMappings = [
    port,
    { ...port, hostPort: 18081, hostIp: '10.88.0.1' },
    { ...port, hostPort: 0 },
  ]
  await networks.attach(pod('ports', { portMappings }), { netns: box.path })
  const server = await box.serve(8080)
  await settled()
  assert.is(await hear('10.88.0.1', 18080), 'from the container')
  assert.is(await hear('127.0.0.1', 18080), 'from the container')
  assert.is(await hear('fd00:88::1', 18080), 'from the container')
  assert.is(await hear('10.88.0.1', 18081), 'from the container')
  assert.is(await refusedBy('127.0.0.1', 18081), 'ECONNREFUSED')
  server.kill()
  await networks.detach('ports', { netns: box.path })
  assert.equal(left(context, 'ports'), [])
  assert.is(await refusedBy('10.88.0.1', 18080), 'ECONNREFUSED')
})

test('the annotations of a pod limit its bandwidth in both directions', async (context) => {
  const { networks } = context
  const box = await namespace(context)
  const annotations = {
    'kubernetes.io/ingress-bandwidth': '10M',
    'kubernetes.io/egress-bandwidth': '4M',
  }
  await networks.attach(pod('slow', { annotations }), { netns: box.path })
  const limits = execFileSync('tc', ['qdisc'], { encoding: 'utf8' })
    .split('\n')
    .filter((line) => line.includes('tbf'))
  assert.is(limits.length, 2)
  await networks.check('slow', { netns: box.path })
  assert.match(limits.find((line) => line.includes('dev veth')) ?? '', /rate 10Mbit/)
  assert.match(limits.find((line) => !line.includes('dev veth')) ?? '', /rate 4Mbit/)
  await networks.detach('slow', { netns: box.path })
  assert.equal(left(context, 'slow'), [])
  const bad = pod('bad', { annotations: { 'kubernetes.io/ingress-bandwidth': 'much' } })
  assert.match(
    await message(networks.attach(bad, { netns: box.path })),
    /annotation kubernetes.io\/ingress-bandwidth is "much"/,
  )
  assert.equal(left(context, 'bad'), [])
})

test('a namespace that belongs to a user namespace is attached as any other', async (context) => {
  const { networks } = context
  const box = await namespace(context, ['-Ur'])
  const given = await networks.attach(pod('user'), { netns: box.path })
  assert.match(box.run('ip', '-o', 'addr', 'show', 'eth0'), new RegExp(given.addresses[0] ?? '-'))
  await networks.detach('user', { netns: box.path })
  assert.equal(left(context, 'user'), [])
})

test('a pod whose namespace is gone gives back addresses, ports and limits', async (context) => {
  const { networks } = context
  const box = await namespace(context)
  const port = { protocol: 'UDP' as const, containerPort: 53, hostPort: 18053, hostIp: '' }
  const annotations = { 'kubernetes.io/egress-bandwidth': '4M' }
  await networks.attach(pod('gone', { portMappings: [port], annotations }), { netns: box.path })
  await box.end()
  await networks.detach('gone', { netns: '' })
  await eventually('its end', () => left(context, 'gone').every(masquerade))
  assert.equal(notTakenDown(context), [])
})

test('with its namespace gone, whoever is found at its recorded path is left alone', async (context) => {
  const { networks } = context
  const box = await namespace(context)
  await networks.attach(pod('old'), { netns: box.path })
  await networks.detach('old', { netns: '' })
  assert.match(box.run('ip', '-o', 'link'), / eth0@/)
})

test('a pod is taken down by the configuration that it was attached with', async (context) => {
  const { networks } = context
  const [one, two] = [await namespace(context), await namespace(context)]
  await networks.attach(pod('old'), { netns: one.path })
  const file = join(context.directory, 'net.d', '10-pods.conflist')
  const other = {
    cniVersion: '0.4.0',
    name: 'other',
    plugins: [
      {
        type: 'ptp',
        ipam: {
          type: 'host-local',
          subnet: '10.99.0.0/24',
          dataDir: join(context.directory, 'leases'),
        },
      },
    ],
  }
  writeFileSync(file, JSON.stringify(other))
  const given = await networks.attach(pod('new'), { netns: two.path })
  assert.is(given.network, 'other')
  assert.match(given.addresses.join(), /^10\.99\./)
  await networks.detach('old', { netns: one.path })
  rmSync(file)
  await networks.detach('new', { netns: two.path })
  assert.equal([...left(context, 'old'), ...left(context, 'new')], [])
  assert.not((await networks.ready()).ready)
})

test('a plugin that hangs holds a pod no longer than its time, and the next call finishes', async (context) => {
  const { networks } = context
  plugin(context, 'agent', PASS)
  configure(context, { type: 'agent' })
  const box = await namespace(context)
  await networks.attach(pod('hung'), { netns: box.path })
  plugin(context, 'agent', 'sleep 1000')
  networks.configure({ ...options(context), timeoutMs: 1000 })
  const before = Date.now()
  assert.match(
    await message(networks.detach('hung', { netns: box.path })),
    /agent \(DEL\) did not end/,
  )
  assert.ok(Date.now() - before < 10_000)
  // All others have done their part; the record is there for the next call.
  assert.equal(left(context, 'hung'), ['hung'])
  plugin(context, 'agent', 'true')
  await networks.detach('hung', { netns: box.path })
  assert.equal(left(context, 'hung'), [])
})

test('a daemon that is killed between ADD and its record leaves nothing for the next one', async (context) => {
  // The last plugin of the chain kills the daemon: the bridge, the ports and the lease are there, the result is not.
  plugin(context, 'agent', 'case $CNI_COMMAND in ADD) kill -9 $PPID;; esac')
  configure(context, { type: 'agent' })
  const box = await namespace(context)
  const portMappings = [
    { protocol: 'TCP' as const, containerPort: 80, hostPort: 18080, hostIp: '' },
  ]
  const module = new URL('../../src/pod/network.js', import.meta.url)
  const { warn: _, ...plain } = options(context)
  const script = `import { Networks } from ${JSON.stringify(fileURLToPath(module))}
    const networks = new Networks({ ...${JSON.stringify(plain)}, warn() {} })
    await networks.attach(${JSON.stringify(pod('lost', { portMappings }))}, { netns: ${JSON.stringify(box.path)} })`
  const daemon = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: 'inherit',
  })
  const signal = await new Promise((resolve) => daemon.once('exit', (_code, by) => resolve(by)))
  assert.is(signal, 'SIGKILL')
  assert.ok(left(context, 'lost').length > 3)
  await box.end()
  await context.networks.collect(context.networks.leftBeside([]))
  await eventually(
    'its interfaces are gone',
    () => !left(context, 'lost').some((t) => /veth/.test(t)),
  )
  assert.equal(
    left(context, 'lost').filter((trace) => !masquerade(trace)),
    [],
  )
  assert.equal(notTakenDown(context), [])
})

test('CHECK finds what a restored pod has lost', async (context) => {
  const { networks } = context
  const box = await namespace(context)
  await networks.attach(pod('poor'), { netns: box.path })
  box.run('ip', 'link', 'set', 'eth0', 'down')
  box.run('ip', 'addr', 'flush', 'dev', 'eth0')
  assert.match(
    await message(networks.check('poor', { netns: box.path })),
    /CNI plugin bridge \(CHECK\) failed/,
  )
  await networks.detach('poor', { netns: box.path })
})

test('ten pods at once differ in their addresses and leave nothing', async (context) => {
  const { networks } = context
  const boxes = await Promise.all(Array.from({ length: 10 }, () => namespace(context)))
  const given = await Promise.all(
    boxes.map((box, i) => networks.attach(pod(`many${i}`), { netns: box.path })),
  )
  assert.is(new Set(given.flatMap(({ addresses }) => addresses)).size, 20)
  await Promise.all(boxes.map((box, i) => networks.detach(`many${i}`, { netns: box.path })))
  assert.equal(left(context, 'many'), [])
})

test("a pod's files in /etc are those of its root", async (context) => {
  const directory = join(context.directory, 'etc')
  const mapping = { containerID: 0, hostID: 70_000, size: 65_536 }
  const dnsConfig = { servers: ['10.0.0.10'], searches: ['svc'], options: [] }
  const mappings = { uidMappings: [mapping], gidMappings: [{ ...mapping, hostID: 80_000 }] }
  const { config } = pod('p1', { dnsConfig, hostname: 'web-0' })
  writePodEtc(directory, { id: 'p1', config, mappings, addresses: ['10.0.0.2', 'fd00::2'] })
  const read = (name: string): string => readFileSync(join(directory, name), 'utf8')
  assert.is(read('hostname'), 'web-0\n')
  assert.is(read('resolv.conf'), 'search svc\nnameserver 10.0.0.10\n')
  assert.match(
    read('hosts'),
    /^127\.0\.0\.1\tlocalhost\n[\s\S]*\n10\.0\.0\.2\tweb-0\nfd00::2\tweb-0\n$/,
  )
  for (const name of ['hosts', 'hostname', 'resolv.conf']) {
    const { uid, gid, mode } = statSync(join(directory, name))
    assert.equal([uid, gid, mode & 0o777], [70_000, 80_000, 0o644])
  }
})

test("a pod of the host's network has the host's files", async (context) => {
  const directory = join(context.directory, 'etc')
  const network = 'NODE' as const
  const namespaceOptions = {
    network,
    pid: network,
    ipc: network,
    targetId: '',
    usernsOptions: null,
  }
  const { config } = podWithNamespaces(namespaceOptions)
  writePodEtc(directory, { id: 'p1', config, addresses: [] })
  assert.is(readFileSync(join(directory, 'hosts'), 'utf8'), readFileSync('/etc/hosts', 'utf8'))
  const name = execFileSync('hostname', { encoding: 'utf8' })
  assert.is(readFileSync(join(directory, 'hostname'), 'utf8'), name)
})

function podWithNamespaces(namespaceOptions: object): { config: PodSandboxConfig } {
  const config = podConfig({ hostname: '' })
  const linux = { securityContext: { namespaceOptions } } as unknown as PodSandboxConfig['linux']
  return { config: { ...config, linux } }
}

async function message(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => assert.unreachable('nothing was refused') ?? '',
    (error: unknown) => describe(error),
  )
}

/** The errno of a connection that nobody takes. */
function refusedBy(host: string, port: number): Promise<string> {
  return new Promise((resolve) => {
    const socket = createConnection({ host, port, timeout: 3000 })
    socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? ''))
    socket.on('timeout', () => resolve('timeout'))
    socket.on('connect', () => {
      socket.destroy()
      resolve('connected')
    })
  })
}

test.run()
