/** The fuzz targets in C++: each is a file of native/ with libFuzzer's entry point, linked with the code that it feeds. */
import { gzipSync } from 'node:zlib'
import type { ContainerPlan, NamespaceType } from '../../src/spec/plan.ts'
import { encodeFrame } from '../../src/wire/frame.ts'
import { Message } from '../../src/wire/message.ts'
import { encodeContainer, encodeNamespaces, encodeProcess } from '../../src/wire/plan.ts'
import { TAG } from '../../src/wire/tags.ts'
import { ZSTD_SEEDS } from './zstd-seeds.ts'

export interface NativeTarget {
  /** Folders below native/, without a `main.cc` in them. */
  readonly folders: readonly string[]
  readonly seeds: () => readonly Buffer[]
}

const ids = {
  uids: [{ inside: 0, outside: 100_000, size: 65_536 }],
  gids: [{ inside: 0, outside: 100_000, size: 65_536 }],
}
const everything: ContainerPlan = {
  id: 'c1',
  cgroup: '/sys/fs/cgroup/x',
  namespaces: [
    ...(['mount', 'pid', 'user'] as NamespaceType[]).map((type) => ({ type })),
    { type: 'network', path: '/proc/1/ns/net' },
  ],
  idMappings: ids,
  monotonicOffset: { seconds: 1n, nanoseconds: 2 },
  boottimeOffset: { seconds: -1n, nanoseconds: 2 },
  hostname: 'h',
  domainname: 'd',
  root: {
    kind: 'overlay',
    lower: ['/a', '/b'],
    upper: '/u',
    work: '/w',
    options: ['volatile'],
  },
  rootReadonly: true,
  rootPropagation: 1 << 18,
  mounts: [
    {
      kind: 'bind',
      source: '/s',
      sourceNamespace: 'n',
      lower: ['/l'],
      target: '/t',
      type: '',
      options: [],
      setAttributes: 1,
      clearAttributes: 2,
      setAttributesRecursive: 1,
      clearAttributesRecursive: 2,
      propagation: 1 << 18,
      recursive: true,
      idmap: ids,
      copyUp: false,
      optional: true,
    },
    {
      kind: 'new',
      source: 'tmpfs',
      target: '/dev',
      type: 'tmpfs',
      options: ['mode=755', 'size=64k'],
      setAttributes: 2,
      clearAttributes: 0,
      setAttributesRecursive: 0,
      clearAttributesRecursive: 0,
      propagation: 0,
      recursive: false,
      idmap: 'container',
      copyUp: true,
      optional: false,
    },
  ],
  devices: [{ target: '/dev/null', type: 'c', major: 1, minor: 3, mode: 0o666, uid: 0, gid: 0 }],
  links: [{ target: '/dev/fd', to: '/proc/self/fd' }],
  sysctls: [['net.ipv4.ip_forward', '1']],
  maskedPaths: ['/proc/kcore'],
  readonlyPaths: ['/proc/sys'],
  loopback: true,
  reaper: true,
  process: {
    args: ['/bin/x', 'y'],
    env: ['A=b'],
    cwd: '/',
    createCwd: true,
    uid: 1,
    gid: 1,
    groups: [1, 2],
    umask: 0o22,
    terminal: true,
    rows: 24,
    columns: 80,
    capabilities: { bounding: 1n, effective: 1n, permitted: 1n, inheritable: 0n, ambient: 0n },
    noNewPrivileges: true,
    rlimits: [{ resource: 7, soft: 1024n, hard: 4096n }],
    seccomp: { program: Buffer.from([6, 0, 0, 0, 0, 0, 0xff, 0x7f]), flags: 2 },
    oomScoreAdj: 100,
    apparmor: 'p',
    selinux: 'q',
  },
  io: { stdin: true, stdinOnce: true, log: 'cri', logPath: '/l' },
  exit: { recordPath: '/e', command: ['/bin/berth', 'x'] },
  restart: { policy: 'on-failure', maximumRetries: 3 },
}
const bare: ContainerPlan = { ...everything, root: { kind: 'directory', path: '/r' }, mounts: [] }

function plans(): Buffer[] {
  const marked = (mark: number, bytes: Buffer) => Buffer.concat([Buffer.from([mark]), bytes])
  return [
    marked(0, encodeContainer(everything)),
    marked(0, encodeContainer(bare)),
    marked(1, encodeNamespaces(new Message(), everything).encode()),
    marked(2, encodeProcess(new Message(), everything.process).encode()),
  ]
}

function requests(): Buffer[] {
  const named = (id = 'c1') => new Message().text(TAG.requestId, id)
  return [
    encodeFrame('status'),
    encodeFrame('start', named().encode()),
    encodeFrame('signal', named().number(TAG.requestSignal, 9).flag(TAG.requestAll, true).encode()),
    encodeFrame('attach', named().flag(TAG.requestStdin, true).encode()),
    encodeFrame(
      'exec',
      named()
        .text(TAG.requestExecId, 'e1')
        .number(TAG.requestTimeoutMs, 1000)
        .group(TAG.requestProcess, (group) => encodeProcess(group, everything.process))
        .encode(),
    ),
    encodeFrame('update', named().number(TAG.requestRestartPolicy, 1).encode()),
    Buffer.concat([encodeFrame('stdin', Buffer.from('x')), encodeFrame('stdinClose')]),
    Buffer.concat([
      encodeFrame('resize', Buffer.from([24, 0, 80, 0])),
      encodeFrame('wait', named().encode()),
      encodeFrame('quit'),
    ]),
  ]
}

function archives(): Buffer[] {
  const noise = Buffer.from(Array.from({ length: 300 }, (_, i) => (i * i * 31) & 255))
  // A byte for the kind, two for the pieces.
  return [
    [0, gzipSync('x'.repeat(1000))],
    [0, Buffer.concat([gzipSync('a'), gzipSync('bcd')])],
    [0, Buffer.concat([gzipSync(noise), Buffer.alloc(20)])],
    ...ZSTD_SEEDS.map((bytes) => [1, bytes]),
  ].map(([kind, bytes]) => Buffer.concat([Buffer.from([Number(kind), 20, 10]), bytes as Buffer]))
}

export const NATIVE_TARGETS: Readonly<Record<string, NativeTarget>> = {
  plan: { folders: ['common'], seeds: plans },
  monitor: { folders: ['common', 'init', 'monitor'], seeds: requests },
  decoder: { folders: ['layer'], seeds: archives },
  json: {
    folders: ['common'],
    seeds: () =>
      ['text "\\ \u{1f600}\n', '\xff\xc0\xaf\xed\xa0\x80'].map((t) => Buffer.from(t, 'latin1')),
  },
}
