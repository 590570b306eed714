import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Fault } from '../../../src/base/fault.ts'
import { Networks, type NetworksOptions } from '../../../src/pod/network.ts'
import { eventually } from '../../lib/eventually.ts'
import { podConfig } from '../../lib/pod-config.ts'

/** A node with a configuration directory, a plugin directory, and records. Plugins are programs of others: here shell scripts. */
class Node {
  readonly path = mkdtempSync(join(tmpdir(), 'berth-pod-network-'))
  readonly conf = join(this.path, 'net.d')
  readonly plugins = join(this.path, 'bin')
  readonly records = join(this.path, 'records')
  readonly warnings: string[] = []
  readonly opened: Networks[] = []

  constructor() {
    mkdirSync(this.conf)
    mkdirSync(this.plugins)
  }

  open(options: Partial<NetworksOptions> = {}): Networks {
    const networks = new Networks({
      directory: this.records,
      confDirectory: this.conf,
      pluginDirectories: [this.plugins],
      timeoutMs: 5000,
      warn: (message) => this.warnings.push(message),
      ...options,
    })
    this.opened.push(networks)
    return networks
  }

  /** `body` runs after the call was written down. */
  plugin(type: string, body = ''): void {
    const path = join(this.plugins, type)
    const log = `printf '%s %s %s|%s\\n' "$CNI_COMMAND" "${type}" "$CNI_CONTAINERID" "$conf" >> '${this.path}/log'`
    const result = `case $CNI_COMMAND in ADD) echo '{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.2/24"}]}';; esac`
    writeFileSync(path, `#!/bin/sh\nconf=$(cat)\n${log}\n${body}\n${result}\n`)
    chmodSync(path, 0o755)
  }

  network(file: string, name: string, types: string[], more: object = {}): void {
    const plugins = types.map((type) => ({ type }))
    writeFileSync(
      join(this.conf, file),
      JSON.stringify({ cniVersion: '1.0.0', name, plugins, ...more }),
    )
  }

  /** `ADD a p1` … since the last time. */
  calls(): string[] {
    return this.bodies().map(({ call }) => call)
  }

  bodies(): { call: string; conf: Record<string, unknown> }[] {
    const path = join(this.path, 'log')
    if (!existsSync(path)) return []
    const lines = readFileSync(path, 'utf8').trim().split('\n')
    rmSync(path)
    return lines.map((line) => {
      const at = line.indexOf('|')
      return { call: line.slice(0, at).trim(), conf: JSON.parse(line.slice(at + 1)) }
    })
  }

  recorded(): string[] {
    return existsSync(this.records) ? readdirSync(this.records) : []
  }

  remove(): void {
    for (const networks of this.opened) networks.close()
    rmSync(this.path, { recursive: true })
  }
}

const FAIL = `echo '{"cniVersion":"1.0.0","code":100,"msg":"no way"}'; exit 1`
const pod = (id: string) => ({ id, config: podConfig() })
const netns = '/proc/self/ns/net'

const test = suite<{ node: Node }>('networks')
test.before.each((context) => {
  context.node = new Node()
})
test.after.each(({ node }) => node.remove())

async function refused(promise: Promise<unknown>): Promise<Fault> {
  const outcome = await promise.then(
    () => undefined,
    (error: unknown) => error,
  )
  if (!(outcome instanceof Fault)) throw outcome ?? new Error('nothing was refused')
  return outcome
}

test('the first usable file in lexical order is the default network', ({ node }) => {
  node.network('20-b.conflist', 'b', ['a'])
  node.network('10-a.conflist', 'a', ['a'])
  node.network('00-lo.conf', 'lo', ['loopback'])
  writeFileSync(join(node.conf, '05-notes.txt'), 'no network')
  const networks = node.open()
  assert.is(networks.current?.name, 'a')
  writeFileSync(join(node.conf, '10-a.conflist'), '{')
  assert.is(networks.current?.name, 'b')
  rmSync(node.conf, { recursive: true })
  assert.is(networks.current, undefined)
})

test('a node is not ready without a network, and says why', async ({ node }) => {
  const networks = node.open()
  const said = async (): Promise<string> => {
    const { ready, reason, message } = await networks.ready()
    assert.not(ready)
    assert.is(reason, 'NetworkPluginNotReady')
    return message
  }
  assert.match(await said(), /no CNI network in .*net\.d$/)
  writeFileSync(join(node.conf, '10-a.conflist'), '{"name": ')
  assert.match(await said(), /10-a\.conflist cannot be used: no valid JSON: /)
  node.network('10-a.conflist', 'a', ['bridge', 'other'])
  assert.match(await said(), /"bridge" is in none of .*containernetworking-plugins/)
  assert.match(await said(), /"other" is in none of .*what installs the network brings it along/)
  node.plugin('bridge')
  node.plugin('other')
  node.network('10-a.conflist', 'a', ['bridge', 'other'], { ipam: { type: 'host-local' } })
  assert.equal(await networks.ready(), { ready: true, reason: '', message: '' })
  writeFileSync(join(node.conf, '00-bad.conf'), '[]')
  assert.match((await networks.ready()).message, /00-bad\.conf cannot be used/)
  assert.ok((await networks.ready()).ready)
})

test("a plugin's own plugin is missed, too", async ({ node }) => {
  node.plugin('bridge')
  writeFileSync(
    join(node.conf, 'a.conf'),
    JSON.stringify({
      name: 'a',
      cniVersion: '1.0.0',
      type: 'bridge',
      ipam: { type: 'host-local' },
    }),
  )
  assert.match((await node.open().ready()).message, /"host-local" is in none of/)
})

test('STATUS is asked of CNI 1.1, and its answer is kept', async ({ node }) => {
  node.plugin(
    'a',
    `case $CNI_COMMAND in STATUS) echo '{"code":50,"msg":"no agent"}'; exit 1;; esac`,
  )
  node.network('a.conflist', 'a', ['a'], { cniVersion: '1.1.0' })
  // Older than the granularity below which a file is read again each time.
  utimesSync(join(node.conf, 'a.conflist'), 1, 1)
  await new Promise((resolve) => setTimeout(resolve, 150))
  const networks = node.open()
  assert.match((await networks.ready()).message, /a \(STATUS\) failed: no agent/)
  assert.match((await networks.ready()).message, /no agent/)
  assert.equal(node.calls(), ['STATUS a'])
})

test('a STATUS that hangs does not hold the answer', async ({ node }) => {
  node.plugin('a', 'case $CNI_COMMAND in STATUS) exec sleep 3;; esac')
  node.network('a.conflist', 'a', ['a'], { cniVersion: '1.1.0' })
  const networks = node.open()
  const before = Date.now()
  const { ready, message } = await networks.ready()
  assert.ok(Date.now() - before < 2000)
  assert.not(ready)
  assert.match(message, /have not yet answered STATUS/)
})

test('a change of the default network is told, also in a directory that is made later or replaced', async ({
  node,
}) => {
  rmSync(node.conf, { recursive: true })
  node.open()
  mkdirSync(node.conf)
  node.network('a.conflist', 'first', ['a'])
  await eventually('told', () => node.warnings.some((text) => /network first of/.test(text)))
  const other = join(node.path, 'other')
  mkdirSync(other)
  const file = JSON.stringify({ name: 'second', cniVersion: '1.0.0', plugins: [{ type: 'a' }] })
  writeFileSync(join(other, 'a.conflist'), file)
  renameSync(node.conf, join(node.path, 'old'))
  renameSync(other, node.conf)
  await eventually('told', () => node.warnings.some((text) => /network second of/.test(text)))
  await new Promise((resolve) => setTimeout(resolve, 100))
  rmSync(join(node.conf, 'a.conflist'))
  await eventually('told', () => node.warnings.some((text) => /no CNI network/.test(text)))
  assert.is(node.warnings.length, 3)
})

test('a pod has what its network gave, also for a later daemon', async ({ node }) => {
  node.plugin('a')
  node.network('a.conflist', 'net', ['a'])
  const given = await node.open().attach(pod('p1'), { netns })
  assert.equal(given.addresses, ['10.0.0.2'])
  assert.is(given.network, 'net')
  const later = node.open()
  assert.equal(later.of('p1')?.addresses, ['10.0.0.2'])
  assert.is(later.of('p2'), undefined)
  await later.check('p1', { netns })
  await later.detach('p1', { netns })
  await later.detach('p1', { netns })
  assert.equal(node.calls(), ['ADD a p1', 'CHECK a p1', 'DEL a p1'])
  assert.equal(node.recorded(), [])
})

test('a pod is detached by the network it was attached to, whatever the file says now', async ({
  node,
}) => {
  node.plugin('a')
  node.plugin('b')
  node.network('a.conflist', 'net', ['a'])
  const networks = node.open()
  await networks.attach(pod('p1'), { netns })
  node.network('a.conflist', 'net', ['b'])
  await networks.detach('p1', { netns: '' })
  await networks.attach(pod('p2'), { netns })
  rmSync(join(node.conf, 'a.conflist'))
  await networks.detach('p2', { netns: '' })
  assert.equal(node.calls(), ['ADD a p1', 'DEL a p1', 'ADD b p2', 'DEL b p2'])
})

test('a pod can be deleted when its plugins are gone; the rest of the chain has run', async ({
  node,
}) => {
  node.plugin('a')
  node.plugin('b')
  node.network('a.conflist', 'net', ['a', 'b'])
  const networks = node.open()
  await networks.attach(pod('p1'), { netns })
  node.calls()
  rmSync(join(node.plugins, 'b'))
  await networks.detach('p1', { netns: '' })
  assert.equal(node.calls(), ['DEL a p1'])
  assert.match(node.warnings.join(), /network of pod p1 is not wholly taken down: CNI plugin "b"/)
  // Installed again by the next start, it has its turn.
  node.plugin('b')
  const next = node.open()
  await next.collect(next.leftBeside([]))
  assert.equal(node.calls(), ['DEL b p1', 'DEL a p1'])
  assert.equal(node.recorded(), [])
})

test('of a network that stays uninstalled, records are dropped at the next start', async ({
  node,
}) => {
  node.plugin('a')
  node.network('a.conflist', 'net', ['a'])
  const networks = node.open()
  await networks.attach(pod('p1'), { netns })
  rmSync(join(node.plugins, 'a'))
  await networks.detach('p1', { netns: '' })
  assert.is(node.recorded().length, 1)
  await networks.collect(networks.leftBeside([]))
  assert.equal(node.recorded(), [])
})

test('a plugin that fails keeps an attached pod, until it succeeds', async ({ node }) => {
  node.plugin('a')
  node.network('a.conflist', 'net', ['a'])
  const networks = node.open()
  await networks.attach(pod('p1'), { netns })
  node.plugin('a', FAIL)
  const failure = await refused(networks.detach('p1', { netns: '' }))
  assert.match(failure.message, /cannot take down the network of pod p1: .*no way/)
  node.plugin('a')
  await networks.detach('p1', { netns: '' })
  assert.equal(node.recorded(), [])
})

test('a pod that was never wholly attached can be deleted though its plugin fails', async ({
  node,
}) => {
  node.plugin('a', `case $CNI_COMMAND in DEL) ${FAIL};; esac`)
  node.plugin('b', FAIL)
  node.network('a.conflist', 'net', ['a', 'b'])
  const networks = node.open()
  assert.match((await refused(networks.attach(pod('p1'), { netns }))).message, /while undoing/)
  // What could not be undone is not forgotten.
  assert.is(node.recorded().length, 1)
  await networks.detach('p1', { netns })
  assert.match(node.warnings.join(), /not wholly taken down/)
  node.plugin('a')
  node.plugin('b')
  await networks.collect(networks.leftBeside([]))
  assert.equal(node.recorded(), [])
})

test('a plugin that hangs is killed, with what it started, and the others have their turn', async ({
  node,
}) => {
  node.plugin('a')
  node.plugin('b')
  node.network('a.conflist', 'net', ['a', 'b'])
  const networks = node.open({ timeoutMs: 700 })
  await networks.attach(pod('p1'), { netns })
  node.calls()
  const pidFile = join(node.path, 'pid')
  node.plugin('b', `sleep 1000 & echo $! > ${pidFile}; wait`)
  const failure = await refused(networks.detach('p1', { netns }))
  assert.is(failure.code, 'DEADLINE_EXCEEDED')
  assert.equal(node.calls(), ['DEL b p1', 'DEL a p1'])
  const child = Number(readFileSync(pidFile, 'utf8'))
  await eventually('its child is gone', () => {
    const status = existsSync(`/proc/${child}/stat`) && readFileSync(`/proc/${child}/stat`, 'utf8')
    return !status || / Z /.test(status)
  })
})

test('an ADD that cannot be recorded is taken back', async ({ node }) => {
  // The directory goes while the plugin runs: what a full disk does to the write.
  node.plugin('a', `case $CNI_COMMAND in ADD) rm -r '${node.records}';; esac`)
  node.network('a.conflist', 'net', ['a'])
  const failure = await node
    .open()
    .attach(pod('p1'), { netns })
    .then(
      () => undefined,
      (error: unknown) => error,
    )
  assert.match(String(failure), /ENOENT/)
  assert.equal(node.calls(), ['ADD a p1', 'DEL a p1'])
})

test('a plugin that crashes in CHECK says nothing against its pod, one that complains does', async ({
  node,
}) => {
  node.plugin('a', 'case $CNI_COMMAND in CHECK) echo panic >&2; exit 2;; esac')
  node.network('a.conflist', 'net', ['a'])
  const networks = node.open()
  await networks.attach(pod('p1'), { netns })
  await networks.check('p1', { netns })
  assert.match(node.warnings.join(), /network of pod p1 cannot be checked: .*exit status 2/)
  node.plugin('a', FAIL)
  assert.match((await refused(networks.check('p1', { netns }))).message, /no way/)
})

test('a network that gives no address is refused, and detached', async ({ node }) => {
  node.plugin('a', `case $CNI_COMMAND in ADD) echo '{"cniVersion":"1.0.0"}'; exit 0;; esac`)
  node.network('a.conflist', 'net', ['a'])
  const failure = await refused(node.open().attach(pod('p1'), { netns }))
  assert.match(failure.message, /gave pod p1 no address/)
  assert.equal(node.calls(), ['ADD a p1', 'DEL a p1'])
  assert.equal(node.recorded(), [])
})

test('an attach that is called off kills the plugin and takes back what it did', async ({
  node,
}) => {
  node.plugin('a', 'case $CNI_COMMAND in ADD) exec sleep 1000;; esac')
  node.network('a.conflist', 'net', ['a'])
  const caller = new AbortController()
  const attaching = refused(node.open().attach(pod('p1'), { netns, signal: caller.signal }))
  await eventually('ADD runs', () => existsSync(join(node.path, 'log')))
  caller.abort()
  assert.is((await attaching).code, 'UNAVAILABLE')
  assert.equal(node.calls(), ['ADD a p1', 'DEL a p1'])
  assert.equal(node.recorded(), [])
})

test('calls for one pod wait for each other, those for others do not', async ({ node }) => {
  node.plugin('a', 'case $CNI_COMMAND in ADD) sleep 0.3;; esac')
  node.network('a.conflist', 'net', ['a'])
  const networks = node.open()
  const first = networks.attach(pod('p1'), { netns })
  const second = networks.detach('p1', { netns })
  await Promise.all([first, second, networks.attach(pod('p2'), { netns })])
  const calls = node.calls()
  assert.is(calls.at(-1), 'DEL a p1')
  assert.equal(calls.slice(0, 2).sort(), ['ADD a p1', 'ADD a p2'])
  assert.equal(node.recorded(), ['p2@eth0.json'])
})

test('an attach of a pod that has a record takes that back first', async ({ node }) => {
  node.plugin('a')
  node.network('a.conflist', 'net', ['a'])
  const networks = node.open()
  await networks.attach(pod('p1'), { netns })
  await networks.attach(pod('p1'), { netns })
  assert.equal(node.calls(), ['ADD a p1', 'DEL a p1', 'ADD a p1'])
})

test('a record that was cut off in its second line is one of an ADD that did not end', async ({
  node,
}) => {
  node.plugin('a')
  node.network('a.conflist', 'net', ['a'])
  const networks = node.open()
  await networks.attach(pod('p1'), { netns })
  node.calls()
  const path = join(node.records, 'p1@eth0.json')
  writeFileSync(path, readFileSync(path, 'utf8').slice(0, -20))
  assert.is(networks.of('p1'), undefined)
  await networks.detach('p1', { netns: '' })
  assert.equal(node.calls(), ['DEL a p1'])
  assert.equal(node.recorded(), [])
})

test('a damaged record is set aside, and its pod detached by the network as it is', async ({
  node,
}) => {
  node.plugin('a')
  node.network('a.conflist', 'net', ['a'])
  const networks = node.open()
  await networks.attach(pod('p1'), { netns })
  writeFileSync(join(node.records, 'p1@eth0.json'), '{"version":')
  node.calls()
  await networks.detach('p1', { netns })
  assert.equal(node.calls(), ['DEL a p1'])
  assert.equal(node.recorded(), ['p1@eth0.json.damaged'])
  assert.match(node.warnings.join(), /p1@eth0\.json is damaged/)
})

test('collect takes down the pods that are gone, and GC names those that are not', async ({
  node,
}) => {
  node.plugin('a')
  node.network('a.conflist', 'net', ['a'], { cniVersion: '1.1.0' })
  const networks = node.open()
  for (const id of ['p1', 'p2']) await networks.attach(pod(id), { netns })
  const neighbour = join(node.path, 'neighbour')
  mkdirSync(neighbour)
  writeFileSync(join(neighbour, 'c9@eth0.json'), '{}')
  node.calls()
  const next = node.open({ neighbours: [neighbour] })
  await next.collect(next.leftBeside(['p2']))
  const [del, gc, ...more] = node.bodies()
  assert.equal([del?.call, gc?.call, more], ['DEL a p1', 'GC a', []])
  assert.equal(gc?.conf['cni.dev/valid-attachments'], [
    { containerID: 'p2', ifname: 'eth0' },
    { containerID: 'c9', ifname: 'eth0' },
  ])
  assert.equal(node.recorded(), ['p2@eth0.json'])
})

test("the node's range of addresses outlives the daemon", ({ node }) => {
  const networks = node.open()
  networks.setPodCidr('10.1.0.0/24,fd00::/64')
  networks.setPodCidr('')
  assert.equal(node.open().podCidrs, ['10.1.0.0/24', 'fd00::/64'])
  writeFileSync(join(node.records, 'pod-cidr.json'), '{')
  assert.equal(node.open().podCidrs, [])
})

test('other options hold from the next call on', async ({ node }) => {
  node.plugin('a')
  const networks = node.open({ confDirectory: join(node.path, 'nowhere') })
  node.network('a.conflist', 'net', ['a'])
  assert.not((await networks.ready()).ready)
  const options = {
    directory: node.records,
    confDirectory: node.conf,
    pluginDirectories: [node.plugins],
    warn: () => {},
  }
  networks.configure(options)
  assert.ok((await networks.ready()).ready)
  assert.throws(() => networks.configure({ ...options, directory: '/elsewhere' }), /cannot change/)
})

test.run()
