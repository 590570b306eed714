import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Fault } from '../../../src/base/fault.ts'
import {
  parseByteRate,
  parseDevice,
  parseDeviceWeight,
  parseOperationRate,
} from '../../../src/cli/parse/device.ts'
import { parseEnvFile, parseLabel, parseLabelFile } from '../../../src/cli/parse/environment.ts'
import { parseRestart, parseSysctl, parseUlimit } from '../../../src/cli/parse/limits.ts'
import { parseMount, parseTmpfs, parseVolume } from '../../../src/cli/parse/mount.ts'
import {
  parseNamespace,
  parseNetwork,
  parseSignal,
  parseUserNamespace,
} from '../../../src/cli/parse/namespace.ts'
import { parsePorts } from '../../../src/cli/parse/port.ts'
import { parseSecurity } from '../../../src/cli/parse/security.ts'
import {
  parseCpus,
  parseInteger,
  parseOctal,
  parseSize,
  parseSizeOrUnlimited,
} from '../../../src/cli/parse/size.ts'
import { parseDuration, parseMoment, parseTimestamp } from '../../../src/cli/parse/time.ts'

/** Each row is a text and what it means; undefined where it is refused. */
function means<T>(what: string, parse: (text: string) => T, rows: [string, T | undefined][]): void {
  for (const [text, meaning] of rows) {
    const claim = meaning === undefined ? 'is refused' : `is ${JSON.stringify(meaning, bigint)}`
    test(`${what} ${JSON.stringify(text)} ${claim}`, () => {
      if (meaning === undefined)
        assert.throws(
          () => parse(text),
          (e: unknown) => e instanceof Fault,
        )
      else assert.equal(parse(text), meaning)
    })
  }
}

function bigint(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? `${value}n` : value
}

means('size', parseSize, [
  ['0', 0],
  ['1024', 1024],
  ['10b', 10],
  ['64m', 67_108_864],
  ['64M', 67_108_864],
  ['64mb', 67_108_864],
  ['64MiB', 67_108_864],
  ['1.5g', 1_610_612_736],
  ['2t', 2_199_023_255_552],
  ['', undefined],
  ['m', undefined],
  ['-1', undefined],
  ['64q', undefined],
  ['1e3', undefined],
  ['0x10', undefined],
  ['9999999999999p', undefined],
])
means('size or -1', parseSizeOrUnlimited, [
  ['-1', -1],
  ['1k', 1024],
  ['-2', undefined],
])
means('cpus', parseCpus, [
  ['0.5', 0.5],
  ['.5', 0.5],
  ['2', 2],
  ['0', undefined],
  ['0.001', undefined],
  ['-1', undefined],
  ['1,5', undefined],
])
means('whole number', parseInteger(-1, 100), [
  ['-1', -1],
  ['100', 100],
  ['101', undefined],
  ['1.0', undefined],
  ['', undefined],
])
means('octal', parseOctal, [
  ['022', 18],
  ['0022', 18],
  ['1777', 1023],
  ['8', undefined],
  ['', undefined],
])

const none = {
  source: '',
  readOnly: false,
  recursiveReadOnly: false,
  propagation: '',
  createSource: false,
  nonRecursive: false,
  idmap: false,
  noCopy: false,
  options: [],
}
const bind = { ...none, kind: 'bind' as const, createSource: true }
const volume = { ...none, kind: 'volume' as const }
means('-v', (text) => parseVolume(text, '/here'), [
  ['/a:/b', { ...bind, source: '/a', target: '/b' }],
  ['./a:/b', { ...bind, source: '/here/a', target: '/b' }],
  ['../a:/b/', { ...bind, source: '/a', target: '/b' }],
  ['.:/b', { ...bind, source: '/here', target: '/b' }],
  ['/a:/b:ro', { ...bind, source: '/a', target: '/b', readOnly: true, recursiveReadOnly: true }],
  [
    '/a:/b:rw,rslave,noexec',
    { ...bind, source: '/a', target: '/b', propagation: 'rslave', options: ['noexec'] },
  ],
  ['data:/b', { ...volume, source: 'data', target: '/b' }],
  ['data:/b:ro,nocopy', { ...volume, source: 'data', target: '/b', readOnly: true, noCopy: true }],
  ['/b', { ...volume, target: '/b' }],
  ['a/b:/c', undefined],
  [':/b', undefined],
  ['/a:b', undefined],
  ['/a:/', undefined],
  ['/a:/b/../..', undefined],
  ['/a:/b:ro:x', undefined],
  ['/a:/b:z', undefined],
  ['/a:/b:nocopy', undefined],
  ['/a:/b:frob', undefined],
  ['data:/b:rshared', undefined],
])
means('--mount', (text) => parseMount(text, '/here'), [
  ['type=bind,src=/a,dst=/b', { ...none, kind: 'bind', source: '/a', target: '/b' }],
  [
    'type=bind,source=a,target=/b,readonly',
    {
      ...none,
      kind: 'bind',
      source: '/here/a',
      target: '/b',
      readOnly: true,
      recursiveReadOnly: true,
    },
  ],
  [
    'type=bind,src=/a,dst=/b,ro=false,bind-propagation=rshared,bind-nonrecursive',
    {
      ...none,
      kind: 'bind',
      source: '/a',
      target: '/b',
      propagation: 'rshared',
      nonRecursive: true,
    },
  ],
  [
    'type=bind,src=/a,dst=/b,ro,bind-recursive=writable',
    { ...none, kind: 'bind', source: '/a', target: '/b', readOnly: true },
  ],
  ['"type=bind","src=/a,b",dst=/b', { ...none, kind: 'bind', source: '/a,b', target: '/b' }],
  ['src=data,dst=/b', { ...none, kind: 'volume', source: 'data', target: '/b' }],
  ['type=volume,dst=/b,volume-nocopy', { ...none, kind: 'volume', target: '/b', noCopy: true }],
  [
    'type=tmpfs,dst=/b,tmpfs-size=1m,tmpfs-mode=1777',
    { ...none, kind: 'tmpfs', target: '/b', options: ['size=1048576', 'mode=1777'] },
  ],
  ['type=bind,dst=/b', undefined],
  ['type=bind,src=/a', undefined],
  ['type=npipe,src=/a,dst=/b', undefined],
  ['type=bind,src=/a,dst=/b,frob=1', undefined],
  ['type=bind,src=/a,dst=/b,tmpfs-size=1m', undefined],
  ['type=tmpfs,src=/a,dst=/b', undefined],
  ['type=volume,dst=/b,volume-subpath=x', undefined],
  ['type=bind,,dst=/b', undefined],
  ['type=bind,"src=/a,dst=/b', undefined],
])
means('--tmpfs', parseTmpfs, [
  ['/run', { ...none, kind: 'tmpfs', target: '/run' }],
  [
    '/run:rw,size=64m,mode=755,noexec',
    { ...none, kind: 'tmpfs', target: '/run', options: ['size=67108864', 'mode=755', 'noexec'] },
  ],
  ['run', undefined],
  ['/run:frob', undefined],
])

const port = { hostIp: '', hostPort: 0, containerPort: 80, protocol: 'tcp' as const }
means('-p', parsePorts, [
  ['80', [port]],
  ['8080:80', [{ ...port, hostPort: 8080 }]],
  ['8080:80/UDP', [{ ...port, hostPort: 8080, protocol: 'udp' }]],
  ['127.0.0.1:8080:80', [{ ...port, hostIp: '127.0.0.1', hostPort: 8080 }]],
  ['127.0.0.1::80', [{ ...port, hostIp: '127.0.0.1' }]],
  ['[::1]:8080:80/sctp', [{ ...port, hostIp: '::1', hostPort: 8080, protocol: 'sctp' }]],
  ['[::]::80', [{ ...port, hostIp: '::' }]],
  [
    '8000-8001:80-81',
    [
      { ...port, hostPort: 8000 },
      { ...port, hostPort: 8001, containerPort: 81 },
    ],
  ],
  ['', undefined],
  ['0', undefined],
  ['65536', undefined],
  ['8080:80/icmp', undefined],
  ['8000-8002:80-81', undefined],
  ['81-80', undefined],
  ['localhost:8080:80', undefined],
  ['[127.0.0.1]:8080:80', undefined],
  ['::1:8080:80', undefined],
  ['1:2:3:4', undefined],
])

means('--device', parseDevice, [
  ['/dev/a', { source: '/dev/a', target: '/dev/a', access: 'rwm' }],
  ['/dev/a:/dev/b', { source: '/dev/a', target: '/dev/b', access: 'rwm' }],
  ['/dev/a:r', { source: '/dev/a', target: '/dev/a', access: 'r' }],
  ['/dev/a:/dev/b:rw', { source: '/dev/a', target: '/dev/b', access: 'rw' }],
  ['dev/a', undefined],
  ['/dev/a:/dev/b:rr', undefined],
  ['/dev/a:/dev/b:x', undefined],
  ['vendor.com/gpu=0', undefined],
])
means('rate', parseByteRate, [
  ['/dev/sda:1m', { path: '/dev/sda', rate: 1_048_576 }],
  ['/dev/sda', undefined],
  ['sda:1m', undefined],
])
means('operations', parseOperationRate, [
  ['/dev/sda:100', { path: '/dev/sda', rate: 100 }],
  ['/dev/sda:1k', undefined],
])
means('weight', parseDeviceWeight, [
  ['/dev/sda:100', { path: '/dev/sda', rate: 100 }],
  ['/dev/sda:9', undefined],
])
means('--ulimit', parseUlimit, [
  ['nofile=1024', { name: 'nofile', soft: 1024, hard: 1024 }],
  ['nofile=1024:4096', { name: 'nofile', soft: 1024, hard: 4096 }],
  ['core=0:-1', { name: 'core', soft: 0, hard: -1 }],
  ['memlock=unlimited', { name: 'memlock', soft: -1, hard: -1 }],
  ['nofile=4096:1024', undefined],
  ['nofile=-1:1024', undefined],
  ['files=1', undefined],
  ['nofile', undefined],
])
means('--sysctl', parseSysctl, [
  ['net.core.somaxconn=1024', ['net.core.somaxconn', '1024']],
  ['net/ipv4/ping_group_range=0 1', ['net.ipv4.ping_group_range', '0 1']],
  ['somaxconn=1', undefined],
  ['net.core.somaxconn', undefined],
  ['net..core=1', undefined],
])
means('--restart', parseRestart, [
  ['no', { policy: 'no', maximumRetries: 0 }],
  ['on-failure', { policy: 'on-failure', maximumRetries: 0 }],
  ['on-failure:3', { policy: 'on-failure', maximumRetries: 3 }],
  ['unless-stopped', { policy: 'unless-stopped', maximumRetries: 0 }],
  ['always:3', undefined],
  ['sometimes', undefined],
])
means('label', parseLabel, [
  ['a=b=c', ['a', 'b=c']],
  ['a', ['a', '']],
  ['=b', undefined],
])
means('namespace', parseNamespace(), [
  ['host', 'host'],
  ['private', 'private'],
  ['container:web', 'container:web'],
  ['ns:/proc/1/ns/pid', 'ns:/proc/1/ns/pid'],
  ['ns:proc', undefined],
  ['container:', undefined],
  ['none', undefined],
])
means('network', parseNetwork, [
  ['default', 'bridge'],
  ['none', 'none'],
  ['my-net', 'my-net'],
  ['a/b', undefined],
])
means('--userns', parseUserNamespace, [
  ['host', 'host'],
  ['auto', 'auto'],
  ['100000:100000:65536', '100000:100000:65536'],
  ['100000:65536', undefined],
  ['keep-id', undefined],
])
means('signal', parseSignal, [
  ['term', 'SIGTERM'],
  ['SIGHUP', 'SIGHUP'],
  ['9', '9'],
  ['64', '64'],
  ['RTMIN+3', 'SIGRTMIN+3'],
  ['0', undefined],
  ['65', undefined],
  ['SIGFROB', undefined],
])
means('duration', parseDuration, [
  ['90s', 90_000_000_000n],
  ['1h30m', 5_400_000_000_000n],
  ['1.5h', 5_400_000_000_000n],
  ['250ms', 250_000_000n],
])
means('timestamp', parseTimestamp, [
  ['1970-01-01T00:00:01Z', 1_000_000_000n],
  ['1970-01-01T00:00:01.000000002Z', 1_000_000_002n],
  ['1970-01-01T01:00:00+01:00', 0n],
])
means('moment', (text) => parseMoment(text, 10_000), [
  ['2s', 8_000_000_000n],
  ['1700000000.5', 1_700_000_000_500_000_000n],
  ['1970-01-01T00:00:00Z', 0n],
  ['yesterday', undefined],
  ['1970-13-01T00:00:00Z', undefined],
])
means('--security-opt', (text) => parseSecurity(text.split(' ')), [
  ['no-new-privileges', { noNewPrivileges: true, mask: [], unmask: [] }],
  ['no-new-privileges:true', { noNewPrivileges: true, mask: [], unmask: [] }],
  ['no-new-privileges=false', { noNewPrivileges: false, mask: [], unmask: [] }],
  [
    'seccomp=unconfined apparmor=x mask=/a:/b unmask=ALL',
    {
      noNewPrivileges: false,
      mask: ['/a', '/b'],
      unmask: ['ALL'],
      seccomp: 'unconfined',
      apparmor: 'x',
    },
  ],
  ['systempaths=unconfined', { noNewPrivileges: false, mask: [], unmask: ['ALL'] }],
  ['label=disable', { noNewPrivileges: false, mask: [], unmask: [] }],
  ['label=type:x', undefined],
  ['seccomp', undefined],
  ['mask=a', undefined],
  ['frob=1', undefined],
])

test('an env file takes lines as they are', () => {
  const text = '\uFEFF# comment\n\nA=1\r\n  B="x y"#z\nHOME\nC=\n'
  assert.equal(parseEnvFile(text, 'f'), ['A=1', 'B="x y"#z', 'HOME', 'C='])
})

test('a name with a space in an env file is refused with file and line', () => {
  assert.throws(() => parseEnvFile('A=1\nB C=2\n', 'f.env'), /f\.env:2: "B C"/)
  assert.throws(() => parseEnvFile('=2\n', 'f.env'), /f\.env:1/)
})

test('a label file is labels', () => {
  assert.equal(parseLabelFile('a=1\n# no\nb\n'), [
    ['a', '1'],
    ['b', ''],
  ])
})

test.run()
