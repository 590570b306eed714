/** What the CRI asks for, as a container of a monitor shows it: from the pod's configuration to what a program sees. */
import { chmodSync, chownSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { compiledSeccomp } from '../../src/container/index.ts'
import { hostFacts, namespacesOfHost, planContainer } from '../../src/plan/index.ts'
import { checkImagePath } from '../../src/pod/mount-source.ts'
import { containerMounts } from '../../src/pod/mounts.ts'
import { containerNamespaces, podNamespaces } from '../../src/pod/namespaces.ts'
import { checkedResources, NO_RESOURCES } from '../../src/pod/resources.ts'
import { containerSpec } from '../../src/pod/spec.ts'
import { containerUser } from '../../src/pod/user.ts'
import type { NamespaceOption } from '../../src/spec/cri.ts'
import { DEFAULT_CAPABILITIES } from '../../src/spec/defaults.ts'
import { encodeContainer } from '../../src/wire/plan.ts'
import { collect, MonitorBench } from '../lib/monitor.ts'
import { needs } from '../lib/needs.ts'
import { traces } from '../lib/traces.ts'
import {
  containerConfig,
  mount,
  options,
  podConfig,
  refused,
  security,
  userns,
} from '../unit/pod/config.ts'

needs('root', 'cgroup2', 'overlay', 'userns', 'program:busybox')

const bench = new MonitorBench()
const clean = traces({ roots: [bench.directory] })
const FIRST_ID = 65536

/** Below a directory that only root may pass, as berth's own are. */
function make(name: string, mode = 0o755): string {
  const path = join(bench.directory, name)
  mkdirSync(path, { recursive: true, mode })
  return path
}

const data = make('data')
writeFileSync(join(data, 'secret'), 'of root\n', { mode: 0o600 })
const layers = ['top', 'bottom'].map((name) => make(`image/${name}/sub`).replace('/sub', ''))
for (const [i, layer] of layers.entries()) {
  writeFileSync(join(layer, 'sub', 'which'), `${i}\n`)
  writeFileSync(join(layer, 'sub', `only-${i}`), `${i}\n`, { mode: 0o600 })
}
chmodSync(bench.directory, 0o700)

/** Runs a script as a container of a new pod with these namespaces, and gives its lines. */
async function run(
  id: string,
  namespaceOptions: NamespaceOption,
  script: string,
): Promise<string[]> {
  const isOfHost = namespaceOptions.network === 'NODE'
  const config = podConfig({ namespaceOptions }, { hostname: isOfHost ? '' : 'web-0' })
  const context = security({
    namespaceOptions,
    runAsUser: { value: '0' },
    seccomp: { profileType: 'RuntimeDefault', localhostRef: '' },
    supplementalGroups: ['77'],
    maskedPaths: ['/proc/timer_list'],
  })
  const pod = podNamespaces(config, { id, hostname: hostname() })
  const ids = pod.mappings
    ? {
        uidMappings: userns().uids,
        gidMappings: userns().gids,
      }
    : {}
  const contained = containerConfig(
    {
      command: ['/bin/sh', '-c', script],
      mounts: [
        mount({ containerPath: '/data', hostPath: data, readonly: true, ...ids }),
        mount({
          containerPath: '/view',
          hostPath: '',
          readonly: true,
          imageSubPath: 'sub',
          image: {
            image: 'i',
            annotations: {},
            userSpecifiedImage: '',
            runtimeHandler: '',
            imageRef: '',
          },
        }),
      ],
    },
    context,
  )
  const monitor = await bench.monitor(id)
  const held = await monitor.holdNamespaces(pod.plan)
  const namespaces = containerNamespaces(context, { pod: config, held, target: undefined })
  const warn = (message: string) => assert.unreachable(message)
  const spec = containerSpec({
    pod: { id, config, hostname: pod.hostname, mappings: pod.mappings },
    config: contained,
    image: {},
    imageRef: 'i',
    account: containerUser(context, '', { passwd: '', group: '' }),
    resources: checkedResources('linux.resources', { ...NO_RESOURCES, oomScoreAdj: '123' }),
    namespaces: namespaces.namespaces,
    mounts: containerMounts({
      config: contained,
      privileged: false,
      readonlyRootfs: false,
      namespaces,
      mappings: pod.mappings,
      files: {},
      images: [{ index: 1, lower: layers }],
      volumes: [],
      mountinfo: readFileSync('/proc/self/mountinfo', 'utf8'),
      selinux: false,
      warn,
    }),
    facts: hostFacts(),
    controllers: [],
    handler: {
      seccompProfile: '',
      capabilities: DEFAULT_CAPABILITIES,
      ulimits: [],
      privilegedWithoutHostDevices: false,
      restrictOomScoreAdj: false,
    },
    rootPath: bench.root,
    cgroupsPath: '',
    warn,
  })
  const upper = make(`${id}/upper`)
  chownSync(upper, pod.mappings ? FIRST_ID : 0, pod.mappings ? FIRST_ID : 0)
  mkdirSync(bench.cgroupOf(id), { recursive: true })
  const seccomp = await compiledSeccomp(spec.linux?.seccomp, make('programs'))
  const { plan } = planContainer(spec, hostFacts(), {
    id,
    cgroup: bench.cgroupOf(id),
    root: { kind: 'overlay', lower: [bench.root], upper, work: make(`${id}/work`), options: [] },
    io: { stdin: false, stdinOnce: false, log: 'cri', logPath: bench.logPath(id) },
    exit: { recordPath: bench.exitPath(id), command: [] },
    createCwd: true,
    hostNamespaces: namespacesOfHost(spec),
    seccomp,
  })
  const path = join(bench.directory, `${id}.plan`)
  writeFileSync(path, encodeContainer(plan))
  await monitor.create(path)
  const session = await monitor.attach(id, {})
  await monitor.start(id)
  const text = await collect(session)
  await session.exit
  return text.trim().split('\n')
}

const LOOK = `cd /
cat /proc/sys/kernel/hostname
busybox id
busybox stat -c '%u:%g' /dev/null
echo again >/proc/self/fd/1
cat /data/secret
cat /view/which /view/only-0 /view/only-1
cat /proc/self/oom_score_adj /proc/sys/net/ipv4/ping_group_range
busybox grep -c . /proc/timer_list
busybox ls /sys/class/net
busybox awk '$3 == 65536 {print $2}' /proc/self/uid_map
busybox touch /data/x /view/x 2>&1
echo $HOME $HOSTNAME`

const SEEN = ['uid=0 gid=0 groups=0,77', '0:0', 'again', 'of root', ...['0', '0', '1'], '123']
const REFUSALS = ['touch: /data/x: Read-only file system', 'touch: /view/x: Read-only file system']

for (const [what, usernsOptions, own] of [
  ['of the host’s users', { mode: 'NODE', uids: [], gids: [] }, []],
  ['of users of its own', userns(), [String(FIRST_ID)]],
] as const) {
  test(`a container of a pod ${what} sees what the CRI says`, async () => {
    const given = options({
      usernsOptions: {
        ...usernsOptions,
        uids: [...usernsOptions.uids],
        gids: [...usernsOptions.gids],
      },
    })
    const lines = await run(own.length ? 'mapped' : 'plain', given, LOOK)
    const groups = own.length ? '0\t65535' : '0\t2147483647'
    assert.equal(lines, ['web-0', ...SEEN, groups, '0', 'lo', ...own, ...REFUSALS, '/ web-0'])
  })
}

test('users of its own go with the host’s network', async () => {
  const given = options({ usernsOptions: userns(), network: 'NODE' })
  const lines = await run(
    'host',
    given,
    'cat /proc/sys/kernel/hostname; busybox ls -d /sys/class/net/lo; cat /view/which',
  )
  assert.equal(lines, [hostname(), '/sys/class/net/lo', '0'])
})

test('a path that an image has not is refused before anything is made', () => {
  symlinkSync('/etc', join(layers[0] ?? '', 'outside'))
  for (const path of ['', 'sub', 'sub/only-1']) checkImagePath('mounts[0]', layers, path)
  for (const path of ['none', 'sub/which/x', 'outside/passwd']) {
    refused(() => checkImagePath('mounts[0]', layers, path), 'NOT_FOUND', /^mounts\[0\]: no /)
  }
})

test('nothing is left behind', async () => {
  await bench.end()
  await clean()
})

test.run()
