import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Fault } from '../../../src/base/fault.ts'
import { type NetworkConf, parseConf } from '../../../src/network/conf.ts'
import type { NetworkResult } from '../../../src/network/result.ts'
import { orderAddresses, parseCidrs } from '../../../src/pod/network-address.ts'
import { parseQuantity, podBandwidth } from '../../../src/pod/network-bandwidth.ts'
import { podHostname, podResolv } from '../../../src/pod/network-etc.ts'
import { podRequest } from '../../../src/pod/network-request.ts'
import type { PodSandboxConfig } from '../../../src/spec/cri.ts'
import { podConfig } from '../../lib/pod-config.ts'

const network = (...capabilities: string[]): NetworkConf =>
  parseConf(
    JSON.stringify({
      cniVersion: '1.0.0',
      name: 'net',
      plugins: [
        { type: 'a' },
        { type: 'b', capabilities: Object.fromEntries(capabilities.map((name) => [name, true])) },
      ],
    }),
    'f',
  )

const request = (change: Partial<PodSandboxConfig>, ...capabilities: string[]) =>
  podRequest(
    network(...capabilities),
    { id: 'p1', config: podConfig(change) },
    { netns: '/n', podCidrs: ['10.1.0.0/24', 'fd00::/64'] },
  )

/** The Fault's message. */
function refused(act: () => unknown): string {
  try {
    act()
  } catch (error) {
    if (error instanceof Fault && error.code === 'INVALID_ARGUMENT') return error.message
    throw error
  }
  assert.unreachable('nothing was refused')
  return ''
}

test('plugins know a pod by the five keys of Kubernetes', () => {
  const { attachment } = request({})
  assert.equal(attachment, {
    containerId: 'p1',
    netns: '/n',
    ifname: 'eth0',
    args: [
      'IgnoreUnknown=1',
      'K8S_POD_NAMESPACE=shop',
      'K8S_POD_NAME=web-0',
      'K8S_POD_INFRA_CONTAINER_ID=p1',
      'K8S_POD_UID=u-1',
    ],
    capabilities: {},
  })
})

test('a name that would be another argument is refused', () => {
  for (const name of ['a;IP=10.0.0.1', 'a=b', 'a\nb', 'a b', 'x'.repeat(2000)]) {
    const metadata = { name, namespace: 'n', uid: 'u', attempt: 0 }
    assert.match(
      refused(() => request({ metadata })),
      /cannot be given to CNI plugins as K8S_POD_NAME/,
    )
  }
})

test('a plugin that declares everything gets everything', () => {
  const { attachment, undeclared } = request(
    {
      annotations: { a: 'b', 'kubernetes.io/ingress-bandwidth': '10M' },
      portMappings: [
        { protocol: 'TCP', containerPort: 80, hostPort: 8080, hostIp: '' },
        { protocol: 'UDP', containerPort: 53, hostPort: 53, hostIp: 'fd00::1' },
        { protocol: 'TCP', containerPort: 81, hostPort: 0, hostIp: '' },
      ],
      dnsConfig: { servers: ['10.0.0.10'], searches: ['svc'], options: ['ndots:5'] },
      linux: {
        cgroupParent: '/kubepods/pod1',
        securityContext: null,
        sysctls: {},
        overhead: null,
        resources: null,
      },
    },
    'portMappings',
    'bandwidth',
    'dns',
    'ipRanges',
    'cgroupPath',
    'io.kubernetes.cri.pod-annotations',
  )
  assert.equal(attachment.capabilities, {
    portMappings: [
      { hostPort: 8080, containerPort: 80, protocol: 'tcp' },
      { hostPort: 53, containerPort: 53, protocol: 'udp', hostIP: 'fd00::1' },
    ],
    bandwidth: { ingressRate: 10_000_000, ingressBurst: 2 ** 32 - 1 },
    dns: { servers: ['10.0.0.10'], searches: ['svc'], options: ['ndots:5'] },
    ipRanges: [[{ subnet: '10.1.0.0/24' }], [{ subnet: 'fd00::/64' }]],
    cgroupPath: '/kubepods/pod1',
    'io.kubernetes.cri.pod-annotations': { a: 'b', 'kubernetes.io/ingress-bandwidth': '10M' },
  })
  assert.equal(undeclared, [])
})

test('what no plugin declares is told, and given to none', () => {
  const { attachment, undeclared } = request({
    annotations: { 'kubernetes.io/egress-bandwidth': '1G' },
    portMappings: [{ protocol: 'TCP', containerPort: 80, hostPort: 8080, hostIp: '' }],
  })
  assert.equal(attachment.capabilities, {})
  assert.equal(undeclared, ['its host ports', 'its limits of bandwidth'])
})

test('a port mapping that cannot be is refused', () => {
  const good = { protocol: 'TCP' as const, containerPort: 80, hostPort: 8080, hostIp: '' }
  const cases: [change: object, reason: RegExp][] = [
    [{ hostPort: 65536 }, /65536 is no port/],
    [{ containerPort: 0 }, /0 is no port/],
    [{ hostIp: '1.2.3' }, /"1.2.3" is no IP address/],
    [{ protocol: 7 }, /7 is no protocol/],
  ]
  for (const [change, reason] of cases) {
    assert.match(
      refused(() => request({ portMappings: [{ ...good, ...change }] }, 'portMappings')),
      reason,
    )
  }
})

test('quantities are read as Kubernetes reads them, rounded up', () => {
  const cases: [string, bigint | undefined][] = [
    ['1k', 1000n],
    ['1Ki', 1024n],
    ['1.5Ki', 1536n],
    ['10M', 10_000_000n],
    ['1e3', 1000n],
    ['1E3', 1000n],
    ['1E', 10n ** 18n],
    ['1Ei', 1024n ** 6n],
    ['.5k', 500n],
    ['5.', 5n],
    ['1500m', 2n],
    ['1n', 1n],
    ['-1500m', -1n],
    ['+2', 2n],
    ['0', 0n],
    ['', undefined],
    ['.', undefined],
    ['1K', undefined],
    ['1 M', undefined],
    ['1Mi\n', undefined],
    ['0x10', undefined],
    ['1e999', undefined],
    ['9'.repeat(65), undefined],
  ]
  for (const [text, value] of cases) assert.is(parseQuantity(text), value, text)
})

test('a bandwidth that is none names its annotation', () => {
  const cases: [string, RegExp][] = [
    ['fast', /annotation kubernetes.io\/egress-bandwidth is "fast": no quantity/],
    ['10', /less than 1k/],
    ['-1M', /less than 1k/],
    ['2P', /more than 1P/],
    ['', /no quantity/],
  ]
  for (const [text, reason] of cases) {
    assert.match(
      refused(() => podBandwidth({ 'kubernetes.io/egress-bandwidth': text })),
      reason,
    )
  }
})

test('the primary address is of the preferred family, the rest stays in order', () => {
  const result = (...ips: (string | [string, number])[]): NetworkResult => ({
    interfaces: [
      { name: 'veth', mac: '', sandbox: '' },
      { name: 'eth0', mac: '', sandbox: '/n' },
      { name: 'net1', mac: '', sandbox: '/n' },
    ],
    ips: ips.map((ip) =>
      typeof ip === 'string' ? { address: ip } : { address: ip[0], interface: ip[1] },
    ),
    routes: [],
    dns: { nameservers: [], search: [], options: [] },
  })
  const both = result('fd00::2/64', '10.0.0.2/24', '10.0.0.3/24')
  assert.equal(orderAddresses(both, 'ipv4'), ['10.0.0.2', 'fd00::2', '10.0.0.3'])
  assert.equal(orderAddresses(both, 'ipv6'), ['fd00::2', '10.0.0.2', '10.0.0.3'])
  assert.equal(orderAddresses(both, 'cni'), ['fd00::2', '10.0.0.2', '10.0.0.3'])
  assert.equal(orderAddresses(result('10.0.0.2/24'), 'ipv6'), ['10.0.0.2'])
  assert.equal(orderAddresses(result(['10.9.0.1/24', 2], ['10.0.0.2/24', 1]), 'ipv4'), ['10.0.0.2'])
})

test('ranges of addresses are a list or refused', () => {
  assert.equal(parseCidrs('10.0.0.0/24, fd00::/64'), ['10.0.0.0/24', 'fd00::/64'])
  for (const text of [
    '10.0.0.0',
    '10.0.0.0/33',
    'x/8',
    '10.0.0.0/24/1',
    '10.0.0.0/24,',
    'fd00::/129',
  ]) {
    assert.match(
      refused(() => parseCidrs(text)),
      /no list of address ranges/,
    )
  }
})

test('a resolv.conf holds what the client gives, and nothing else', () => {
  const dns = {
    servers: ['10.0.0.10', 'fe80::1%eth0'],
    searches: ['a.b', '.'],
    options: ['ndots:5'],
  }
  assert.is(
    podResolv(dns, { host: false }).text,
    'search a.b .\nnameserver 10.0.0.10\nnameserver fe80::1%eth0\noptions ndots:5\n',
  )
})

test('an entry of the DNS configuration cannot write a line of its own', () => {
  const empty = { servers: [], searches: [], options: [] }
  const cases = [
    { ...empty, servers: ['10.0.0.1\nnameserver 6.6.6.6'] },
    { ...empty, servers: ['dns.example'] },
    { ...empty, searches: ['a\nnameserver 6.6.6.6'] },
    { ...empty, searches: ['a b'] },
    { ...empty, options: ['x\r'] },
    { ...empty, options: [''] },
    { ...empty, searches: ['x'.repeat(2000)] },
    { ...empty, searches: Array.from({ length: 300 }, () => 'x') },
  ]
  for (const dns of cases) {
    assert.match(
      refused(() => podResolv(dns, { host: false })),
      /dns_config/,
    )
  }
})

test('a pod without a host name has the start of its id; one that is no name is refused', () => {
  const id = '0123456789abcdef'
  assert.is(podHostname({ id, config: podConfig({ hostname: '' }) }), '0123456789ab')
  for (const hostname of ['a b', 'a\n10.0.0.1 evil', 'x'.repeat(65)]) {
    assert.match(
      refused(() => podHostname({ id, config: podConfig({ hostname }) })),
      /is no host name/,
    )
  }
})

test.run()
