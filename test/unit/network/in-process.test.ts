/** What is decided before a standard plugin is done in the process itself: which configurations are, and which address comes next. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { areArgsIgnored, planBridge } from '../../../src/network/bridge-plan.ts'
import { nextFree, planLease, type Range } from '../../../src/network/host-local.ts'
import { inputOf } from '../../../src/network/iptables.ts'
import { formatIpv4, lastOf, networkOf, parseIpv4, parseSubnet } from '../../../src/network/ipv4.ts'
import { getLink, parseLink } from '../../../src/network/netlink.ts'

const ipam = { type: 'host-local', ranges: [[{ subnet: '10.1.0.0/16' }]] }
const bridge = { cniVersion: '1.0.0', name: 'net', type: 'bridge', ipam }

test('addresses and networks are read and written as dotted decimals', () => {
  assert.is(parseIpv4('255.0.0.1'), 0xff000001)
  assert.is(formatIpv4(0xff000001), '255.0.0.1')
  for (const odd of ['1.2.3', '1.2.3.4 ', '01.2.3.4', '1.2.3.256', '::1', 7, undefined]) {
    assert.is(parseIpv4(odd), undefined, String(odd))
  }
  assert.equal(parseSubnet('10.1.2.3/0'), { address: 0x0a010203, prefix: 0 })
  for (const odd of ['10.1.2.3/33', '10.1.2.3', '10.1.2.3/', '10.1.2.3/8/8', 'fd00::/8']) {
    assert.is(parseSubnet(odd), undefined, odd)
  }
  assert.is(networkOf({ address: 0xfffefdfc, prefix: 0 }), 0)
  assert.is(networkOf({ address: 0xfffefdfc, prefix: 17 }), 0xfffe8000)
  assert.is(lastOf({ address: 0xfffe8000, prefix: 17 }), 0xfffeffff)
  assert.is(lastOf({ address: 0xfffefdfc, prefix: 32 }), 0xfffefdfc)
})

test('a bridge with one set of IPv4 ranges is known, with any other setting it is not', () => {
  assert.is(planBridge(bridge)?.bridge, 'cni0')
  assert.is(planBridge({ ...bridge, isDefaultGateway: true })?.isGateway, true)
  assert.ok(planBridge({ ...bridge, runtimeConfig: {}, prevResult: {} }))
  for (const more of [
    { vlan: 0 },
    { promiscMode: true },
    { macspoofchk: false },
    { ipMasq: 'true' },
    { ipMasqBackend: 'nftables' },
    { dns: {} },
    { args: {} },
    { mtu: -1 },
    { mtu: '1500' },
    { name: '../x' },
    { bridge: 'a b' },
    { cniVersion: '0.2.0' },
    { cniVersion: '1.2.0' },
    { prevResult: 'x' },
    { runtimeConfig: { mac: '02:00:00:00:00:01' } },
    { runtimeConfig: { ips: ['10.1.0.9/16'] } },
    { ipam: { ...ipam, type: 'static' } },
    { ipam: { ...ipam, resolvConf: '/etc/resolv.conf' } },
    { ipam: { ...ipam, dataDir: 'leases' } },
    { ipam: { ...ipam, routes: [{ dst: '0.0.0.0/0', mtu: 1400 }] } },
    { ipam: { ...ipam, routes: [{ dst: '10.1.2.3/8' }] } },
    { ipam: { ...ipam, ranges: [[{ subnet: 'fd00::/64' }]] } },
    { ipam: { ...ipam, ranges: [[{ subnet: '10.1.0.0/16' }], [{ subnet: '10.2.0.0/16' }]] } },
    { ipam: {} },
    { ipam: undefined },
  ]) {
    assert.is(planBridge({ ...bridge, ...more }), undefined, JSON.stringify(more))
  }
})

test('ranges that a runtime asks for are those', () => {
  const asked = [[{ subnet: '10.7.0.0/24', gateway: '10.7.0.254' }]]
  const plan = planLease('net', { type: 'host-local' }, asked)
  assert.is(plan?.directory, '/var/lib/cni/networks/net')
  assert.equal(plan?.ranges, [
    {
      subnet: { address: 0x0a070000, prefix: 24 },
      first: 0x0a070001,
      last: 0x0a0700fe,
      gateway: 0x0a0700fe,
    },
  ])
})

test('rules are not taken for made before their end by an iptables-restore that reads ahead', () => {
  assert.equal(inputOf('nat', ['-N X', '-A X -j ACCEPT']), {
    input: '*nat\n-N X\n-A X -j ACCEPT\nCOMMIT\n',
  })
  assert.is(inputOf('nat', [':X - [0:0]', '-X X']).tail, undefined)
  for (const first of ['-D X -j ACCEPT', '-C X -j ACCEPT']) {
    assert.match(inputOf('nat', [first, '-A X']).tail ?? '', /^#.*\n$/)
  }
})

test('arguments that a plugin would take or refuse are its own', () => {
  assert.ok(areArgsIgnored([]))
  assert.ok(areArgsIgnored(['IgnoreUnknown=1', 'K8S_POD_NAME=x']))
  for (const args of [
    ['K8S_POD_NAME=x'],
    ['IgnoreUnknown=1', 'IP=10.1.0.9'],
    ['mac=02:00:00:00:00:01', 'IgnoreUnknown=1'],
  ]) {
    assert.not(areArgsIgnored(args), args.join(';'))
  }
})

const range = (first: number, last: number, gateway = 0): Range => ({
  subnet: { address: 0, prefix: 24 },
  first,
  last,
  gateway,
})

test('the next address is the one after the last, once around all ranges, without gateways', () => {
  const ranges = [range(1, 3, 1), range(10, 11)]
  const after = (last: number | undefined, ...taken: number[]) =>
    nextFree(ranges, last, (address) => taken.includes(address))?.address
  assert.is(after(undefined), 2)
  assert.is(after(2), 3)
  assert.is(after(3), 10)
  assert.is(after(11), 2)
  assert.is(after(99), 2)
  assert.is(after(2, 2, 3, 10, 11), undefined)
  assert.is(after(3, 10, 11), 2)
  assert.is(after(undefined, 2, 3, 10, 11), undefined)
})

test('a range of 16 million addresses takes no more looks than it has leases', () => {
  let looks = 0
  const found = nextFree([range(1, 2 ** 24)], undefined, (address) => {
    looks++
    return address <= 5
  })
  assert.is(found?.address, 6)
  assert.is(looks, 6)
})

test('an answer of the kernel that is cut off is refused, not read beyond', () => {
  // As a request looks, so does an answer.
  const whole = getLink('eth0')
  assert.is(parseLink(whole).name, 'eth0')
  for (let size = 0; size < whole.length; size++) {
    assert.throws(() => parseLink(whole.subarray(0, size)), /netlink message that is none/)
  }
  const long = Buffer.from(whole)
  long.writeUInt16LE(0xffff, 32)
  assert.throws(() => parseLink(long), /netlink message that is none/)
})

test.run()
