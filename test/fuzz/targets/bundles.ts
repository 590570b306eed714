import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join, normalize } from 'node:path'
import { Fault } from '../../../src/base/fault.ts'
import { ownCaller } from '../../../src/kernel/caller.ts'
import { createContainer } from '../../../src/oci/create.ts'
import { deleteContainer } from '../../../src/oci/delete.ts'
import { placeOf, readRecord } from '../../../src/oci/record.ts'
import { exampleSpec } from '../../../src/oci/spec.ts'
import { startAndTell } from '../../../src/oci/start.ts'
import { isAlive, stateOf, statusOf } from '../../../src/oci/status.ts'
import { busyboxRoot } from '../../lib/busybox.ts'
import { eventually } from '../../lib/eventually.ts'
import { REPOSITORY } from '../../lib/images.ts'
import { cgroupRoot } from '../../lib/needs.ts'
import { runtimeSchemas } from '../../lib/schemas.ts'
import { processesOf } from '../../lib/traces.ts'
import { Changes, pathsOf } from '../json.ts'
import type { Chance } from '../mutate.ts'
import { claim, type Target } from '../target.ts'

/**
 * Configurations of engines, changed, through create, start, state and delete of berth-oci, in this process. `scripts/fuzz.ts` runs it in a mount namespace
 * where all of the host but its own directory is read-only: a configuration may name the host's directories as root.
 */
const directory = mkdtempSync(join(tmpdir(), 'bundles-'))
const bundle = join(directory, 'bundle')
const root = join(directory, 'state')
const file = join(directory, 'file')
const shared = join(directory, 'shared')
/** Called as the place for files, so that whoever gave it knows it. */
const GROUP = `/${basename(tmpdir())}`
const groups = join(cgroupRoot(), GROUP)
const ID = 'fuzz'
const caller = ownCaller()
/** Containers whose traces are looked for together: the look costs more than one of them. */
const LOOK_EVERY = 16

busyboxRoot(join(bundle, 'rootfs'))
mkdirSync(shared)
writeFileSync(file, 'x')

type Document = Record<string, unknown>

const configurations = [
  exampleSpec() as unknown as Document,
  ...['configs/podman.json', 'configs/containerd.json'].map(read),
  ...['minimal-for-start.json', 'spec-example.json', 'linux-rdma.json', 'linux-netdevice.json'].map(
    (name) => read(`../spec/runtime/test/config/good/${name}`),
  ),
  everyField(),
].map(runnable)

function read(name: string): Document {
  return JSON.parse(readFileSync(join(REPOSITORY, 'test/fuzz', name), 'utf8')) as Document
}

/** What no engine writes by default. */
function everyField(): Document {
  const map = [{ containerID: 0, hostID: 100000, size: 65536 }]
  const spec = exampleSpec() as unknown as {
    process: Document
    linux: Document
    mounts: Document[]
  }
  const hook = { path: '/bin/true', args: ['true'], env: ['A=b'], timeout: 5 }
  return {
    ...spec,
    hostname: 'h',
    domainname: 'd',
    annotations: { a: 'b' },
    hooks: Object.fromEntries(
      [
        'prestart',
        'createRuntime',
        'createContainer',
        'startContainer',
        'poststart',
        'poststop',
      ].map((kind) => [kind, [hook]]),
    ),
    process: {
      ...spec.process,
      user: { uid: 1, gid: 1, umask: 63, additionalGids: [5] },
      oomScoreAdj: 100,
      scheduler: { policy: 'SCHED_BATCH', nice: 5 },
      ioPriority: { class: 'IOPRIO_CLASS_BE', priority: 5 },
    },
    mounts: [
      ...spec.mounts,
      {
        destination: '/a',
        type: 'bind',
        source: '@directory',
        options: ['rbind', 'rro', 'rslave'],
      },
      { destination: '/b', type: 'bind', source: '@file', options: ['bind', 'nosuid'] },
      { destination: '/c', type: 'tmpfs', source: 'x', options: ['tmpcopyup', 'size=1m'] },
    ],
    linux: {
      ...spec.linux,
      namespaces: ['mount', 'pid', 'network', 'ipc', 'uts', 'user', 'cgroup', 'time'].map(
        (type) => ({
          type,
        }),
      ),
      uidMappings: map,
      gidMappings: map,
      timeOffsets: { boottime: { secs: 5, nanosecs: 1 } },
      sysctl: { 'net.ipv4.ip_forward': '1', 'kernel.shmmax': '65536' },
      devices: [{ path: '/dev/f', type: 'c', major: 1, minor: 7, fileMode: 438, uid: 0, gid: 0 }],
      resources: {
        devices: [{ allow: false, access: 'rwm' }],
        unified: { 'cgroup.max.depth': '5' },
      },
      rootfsPropagation: 'slave',
      personality: { domain: 'LINUX', flags: [] },
      memoryPolicy: { mode: 'MPOL_BIND', nodes: '0', flags: [] },
      seccomp: {
        defaultAction: 'SCMP_ACT_ALLOW',
        flags: ['SECCOMP_FILTER_FLAG_LOG'],
        syscalls: [
          {
            names: ['personality'],
            action: 'SCMP_ACT_ERRNO',
            errnoRet: 1,
            args: [{ index: 0, value: 8, valueTwo: 1, op: 'SCMP_CMP_MASKED_EQ' }],
          },
        ],
      },
    },
  }
}

/** With a program that ends, and with places that are there. */
function runnable(document: Document): Document {
  const text = JSON.stringify(document)
    .replaceAll('"@file"', JSON.stringify(file))
    .replaceAll('"@directory"', JSON.stringify(shared))
  const copy = JSON.parse(text) as Document & { process?: Document; linux?: Document }
  copy['ociVersion'] = '1.3.0'
  copy['root'] = { path: 'rootfs' }
  if (copy.process) copy.process = { ...copy.process, args: ['true'], terminal: false }
  if (copy.linux) copy.linux['cgroupsPath'] = `${GROUP}/${ID}`
  return copy
}

/** Values of fields, for other fields. */
const WORDS = configurations.flatMap((document) =>
  pathsOf(document).map((path) =>
    path.reduce<unknown>((value, key) => (value as Document)[key], document),
  ),
)

let changes: Changes | undefined

function change(input: Buffer, chance: Chance): Buffer {
  changes ??= new Changes(chance, WORDS)
  const { document } = changes.of(JSON.parse(input.toString()) as object)
  return Buffer.from(JSON.stringify(document))
}

/** Whatever a configuration asks for, it stays among what is ours: cgroups of others, and writable places of the host. */
function tamed(document: Document): Document {
  const linux = document['linux']
  if (typeof linux !== 'object' || linux === null || Array.isArray(linux)) return document
  const { cgroupsPath: path = '' } = linux as { cgroupsPath?: unknown }
  const isOurs = typeof path !== 'string' || normalize(path).startsWith(`${GROUP}/`)
  if (!isOurs) (linux as Document)['cgroupsPath'] = `${GROUP}/${ID}`
  return document
}

let runs = 0
const mounts = (): string[] => readFileSync('/proc/self/mountinfo', 'utf8').split('\n')
const mountsBefore = new Set(mounts())
let descriptorsBefore = 0
/** Programs for devices are kept for later containers with the same rules: so many (src/cgroup/devices.ts), whatever this process does. */
const DEVICE_PROGRAMS_MAX = 16

/** All that is open but those. */
function descriptors(): number {
  const links = readdirSync('/proc/self/fd').map((fd) => {
    try {
      return readlinkSync(join('/proc/self/fd', fd))
    } catch {
      return 'that of the listing, closed by now'
    }
  })
  const programs = links.filter((link) => link === 'anon_inode:bpf-prog').length
  claim(programs <= DEVICE_PROGRAMS_MAX, `programs for devices are left: ${programs}`)
  return links.length - programs
}

async function run(input: Buffer): Promise<void> {
  let document: unknown
  try {
    document = JSON.parse(input.toString())
  } catch {
    return
  }
  if (typeof document === 'object' && document !== null) document = tamed(document as Document)
  writeFileSync(join(bundle, 'config.json'), JSON.stringify(document))
  const said = await live()
  if (said !== undefined) isExplained(said)
  claim(!existsSync(join(root, ID)), 'its state is left')
  const left = existsSync(groups) ? readdirSync(groups, { withFileTypes: true }) : []
  const left_ = left.filter((entry) => entry.isDirectory()).map(({ name }) => name)
  claim(left_.length === 0, `a cgroup is left: ${left_.join(', ')}`)
  if (++runs % LOOK_EVERY !== 0) return
  // Fewer there may be: the host's, whose places others have removed meanwhile.
  const more = mounts().filter((line) => !mountsBefore.has(line))
  claim(more.length === 0, `mounts are left: ${more.join('; ')}`)
  await eventually('no process is left', () => processesOf([directory]).length === 0, {
    withinMs: 5000,
  })
  descriptorsBefore ||= descriptors()
  // Sockets are closed by the event loop.
  await eventually('no descriptor is left', () => descriptors() <= descriptorsBefore + 8, {
    withinMs: 5000,
  })
}

/** create, start, state and delete; what one of them has refused by. */
async function live(): Promise<unknown> {
  const place = placeOf(root, ID)
  const warn = (message: string): void => isExplained(new Fault('INTERNAL', message))
  let refusal: unknown
  try {
    const { launch } = await createContainer({
      caller,
      root,
      id: ID,
      bundle,
      consoleSocket: undefined,
      pidFile: undefined,
      cgroups: 'cgroupfs',
      preserve: 0,
      env: [],
      notify: undefined,
      keepKeyring: false,
      foreground: false,
      warn,
    })
    await launch.close()
  } catch (error) {
    return error
  }
  const record = readRecord(place)
  try {
    const state = stateOf(record, (await statusOf(place, record)) as 'created')
    const broken = runtimeSchemas.violations('state-schema', JSON.parse(JSON.stringify(state)))
    claim(broken.length === 0, `state is not valid: ${broken.join('; ')}`)
    await startAndTell(caller, place, { notify: undefined, warn })
  } catch (error) {
    refusal = error
  }
  await deleteContainer(caller, root, place, { force: true, warn })
  claim(!isAlive(record), 'its process is left')
  return refusal
}

/** A refusal is a Fault whose words are ours: what failed, on what and why. */
function isExplained(error: unknown): void {
  if (!(error instanceof Fault)) throw error
  const { message } = error
  const isWhole = /^\S+.*: \S|^\w+(\.[\w[\]]+)+ |is not supported|is missing/s.test(message)
  const isOdd = /undefined|\[object|NaN|unknown$|without a word|\bINTERNAL\b/.test(message)
  claim(isWhole && !isOdd, `unexplained: ${message}`)
}

process.on('exit', () => {
  rmSync(directory, { recursive: true, force: true })
  if (existsSync(groups)) rmdirSync(groups)
})

export const bundles: Target = {
  run,
  change,
  batch: LOOK_EVERY,
  seeds: configurations.map((document) => Buffer.from(JSON.stringify(document))),
  words: [],
  bytesMax: 256 * 1024,
}
