import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { planContainer } from '../../../src/plan/index.ts'
import { containerMounts } from '../../../src/pod/mounts.ts'
import { containerNamespaces, podNamespaces } from '../../../src/pod/namespaces.ts'
import type { HandlerSettings } from '../../../src/pod/node.ts'
import { NO_RESOURCES } from '../../../src/pod/resources.ts'
import { type ContainerSpecInput, containerSpec } from '../../../src/pod/spec.ts'
import type { StoredConfig } from '../../../src/pod/types.ts'
import type { LinuxContainerSecurityContext } from '../../../src/spec/cri.ts'
import { DEFAULT_CAPABILITIES } from '../../../src/spec/defaults.ts'
import { RLIMITS } from '../../../src/spec/linux.ts'
import { FACTS, PLACE } from '../plan/facts.ts'
import { containerConfig, options, podConfig, refused, security, userns } from './config.ts'

const HELD = { network: '/proc/9/fd/3', ipc: '/proc/9/fd/4', uts: '/proc/9/fd/5' }

interface Change {
  readonly config?: Partial<StoredConfig>
  readonly context?: Partial<LinuxContainerSecurityContext>
  readonly pod?: Parameters<typeof podConfig>[0]
  readonly held?: Record<string, string>
  readonly input?: Partial<ContainerSpecInput>
}

function input({
  config = {},
  context = {},
  pod = {},
  held = HELD,
  input = {},
}: Change = {}): ContainerSpecInput {
  const podded = podConfig({ namespaceOptions: options(), ...pod })
  const { mappings, hostname } = podNamespaces(podded, { id: 'ab'.repeat(32), hostname: 'node' })
  const secured = security({
    namespaceOptions: podded.linux?.securityContext?.namespaceOptions ?? null,
    ...context,
  })
  const contained = containerConfig(config, secured)
  const namespaces = containerNamespaces(secured, { pod: podded, held, target: undefined })
  return {
    pod: { id: 'ab'.repeat(32), config: podded, hostname, mappings },
    config: contained,
    image: { Labels: { 'io.kubernetes.cri.sandbox-id': 'forged', other: 'x' } },
    imageRef: 'docker.io/library/x:1',
    account: { uid: 1000, gid: 1000, groups: [1000, 2000], home: '/home/x' },
    resources: { ...NO_RESOURCES, oomScoreAdj: '997' },
    namespaces: namespaces.namespaces,
    mounts: containerMounts({
      config: contained,
      privileged: secured.privileged,
      readonlyRootfs: secured.readonlyRootfs,
      namespaces,
      mappings,
      files: { '/etc/hosts': '/pod/hosts' },
      images: [],
      volumes: [],
      mountinfo: '',
      selinux: false,
      warn: assert.unreachable,
    }),
    facts: FACTS,
    controllers: [],
    handler: HANDLER,
    rootPath: '/root',
    cgroupsPath: '/pod/c1',
    warn: assert.unreachable,
    ...input,
  }
}
const HANDLER: HandlerSettings = {
  seccompProfile: '',
  capabilities: DEFAULT_CAPABILITIES,
  ulimits: [],
  privilegedWithoutHostDevices: false,
  restrictOomScoreAdj: false,
}
const spec = (change?: Change) => containerSpec(input(change))
const plan = (change?: Change) => planContainer(spec(change), FACTS, PLACE).plan

test('limits: a soft one of open files that programs expect, and the configured ones', () => {
  const limits = (ulimits: string[]) =>
    spec({ input: { handler: { ...HANDLER, ulimits } } }).process?.rlimits
  const hard = Number(FACTS.hardLimits.get(RLIMITS.RLIMIT_NOFILE))
  assert.equal(limits([]), [{ type: 'RLIMIT_NOFILE', soft: Math.min(1024, hard), hard }])
  assert.equal(limits(['nofile=5:7', 'core=0']), [
    { type: 'RLIMIT_NOFILE', soft: 5, hard: 7 },
    { type: 'RLIMIT_CORE', soft: 0, hard: 0 },
  ])
})

test('a score that berth may not give is its own one, where that is configured, and told', () => {
  const resources = { ...NO_RESOURCES, oomScoreAdj: '-997' }
  const of = (restrictOomScoreAdj: boolean, capabilities: bigint) => {
    const told: string[] = []
    const { process } = spec({
      input: {
        resources,
        facts: { ...FACTS, oomScoreAdj: 5, capabilities },
        handler: { ...HANDLER, restrictOomScoreAdj },
        warn: (text) => told.push(text),
      },
    })
    return [process?.oomScoreAdj, told.length]
  }
  const all = (1n << 41n) - 1n
  assert.equal(of(true, 0n), [5, 1])
  assert.equal(of(true, all), [-997, 0])
  assert.equal(of(false, 0n), [-997, 0])
})

test('the judge takes what is made, to the user and the score', () => {
  const { process, namespaces, sysctls, hostname } = plan()
  assert.equal([process.uid, process.gid, process.groups], [1000, 1000, [1000, 2000]])
  assert.is(process.oomScoreAdj, 997)
  assert.ok(process.env.includes('HOSTNAME=web-0'))
  assert.ok(process.env.includes('HOME=/home/x'))
  assert.equal(namespaces.find(({ type }) => type === 'network')?.path, HELD.network)
  // The pod's, set when it was made.
  assert.equal([sysctls, hostname], [[], undefined])
})

test('a pod’s user namespace is joined, and its mappings are told', () => {
  const usernsOptions = userns()
  const made = plan({
    pod: { namespaceOptions: options({ usernsOptions }) },
    held: { ...HELD, user: '/proc/9/fd/2' },
  })
  assert.is(made.namespaces.find(({ type }) => type === 'user')?.path, '/proc/9/fd/2')
  assert.equal(made.idMappings?.uids, [{ inside: 0, outside: 65536, size: 65536 }])
})

test('a user that the pod does not map is refused', () =>
  refused(
    () =>
      plan({
        pod: { namespaceOptions: options({ usernsOptions: userns() }) },
        held: { ...HELD, user: '/u' },
        input: { account: { uid: 70000, gid: 0, groups: [], home: '/' } },
      }),
    'INVALID_ARGUMENT',
    /70000/,
  ))

test('a privileged container: all of the machine, nothing hidden', () => {
  const { linux, process } = spec({
    pod: { privileged: true },
    context: {
      privileged: true,
      maskedPaths: ['/proc/kcore'],
      readonlyPaths: ['/proc/sys'],
      seccomp: { profileType: 'RuntimeDefault', localhostRef: '' },
    },
  })
  assert.equal([linux?.maskedPaths, linux?.readonlyPaths, linux?.seccomp], [[], [], undefined])
  assert.equal(linux?.resources?.devices, [{ allow: true, access: 'rwm' }])
  assert.is(process?.capabilities?.bounding?.length, 41)
  assert.not(linux?.namespaces?.some(({ type }) => type === 'cgroup'))
})

test('a privileged container in a pod that is not is refused', () =>
  refused(() => spec({ context: { privileged: true } }), 'INVALID_ARGUMENT', /privileged/))

test('paths are hidden as given, also none', () => {
  assert.equal(spec().linux?.maskedPaths, [])
  const context = { maskedPaths: ['/proc/kcore'], readonlyPaths: ['/proc/sys'] }
  const { linux } = spec({ context })
  assert.equal([linux?.maskedPaths, linux?.readonlyPaths], [['/proc/kcore'], ['/proc/sys']])
  refused(
    () => spec({ context: { maskedPaths: ['proc'] } }),
    'INVALID_ARGUMENT',
    /security_context\.masked_paths\[0\]: "proc"/,
  )
})

test('the switches of the security context', () => {
  const { root, process, linux } = spec({
    context: {
      readonlyRootfs: true,
      noNewPrivs: true,
      seccomp: { profileType: 'RuntimeDefault', localhostRef: '' },
    },
    config: { tty: true, workingDir: '/work' },
  })
  assert.is(root?.readonly, true)
  assert.is(process?.noNewPrivileges, true)
  assert.is(process?.terminal, true)
  assert.is(process?.cwd, '/work')
  assert.is(linux?.seccomp?.defaultAction, 'SCMP_ACT_ERRNO')
})

test('limits are the given ones, and the score is set also where it is 0', () => {
  const resources = { ...NO_RESOURCES, cpuShares: '512' }
  const { linux, process } = spec({ input: { resources } })
  assert.equal(linux?.resources?.cpu, { shares: 512 })
  assert.is(process?.oomScoreAdj, 0)
})

test('annotations are the markers, and nothing of anyone else’s (CVE-2026-53488)', () => {
  const { annotations } = spec({ config: { annotations: { mine: 'x' }, labels: { l: 'x' } } })
  assert.equal(annotations, {
    'io.kubernetes.cri.container-type': 'container',
    'io.kubernetes.cri.sandbox-id': 'ab'.repeat(32),
    'io.kubernetes.cri.sandbox-name': 'pod',
    'io.kubernetes.cri.sandbox-namespace': 'default',
    'io.kubernetes.cri.sandbox-uid': 'u1',
    'io.kubernetes.cri.container-name': 'main',
    'io.kubernetes.cri.image-name': 'docker.io/library/x:1',
  })
})

test('a container without a linux section is an ordinary one', () => {
  const given = input()
  const { process, root } = containerSpec({ ...given, config: { ...given.config, linux: null } })
  assert.is(process?.capabilities?.bounding?.length, 14)
  assert.is(root?.readonly, false)
})

test.run()
