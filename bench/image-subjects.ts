/** The programs that pull: the commands of each, and where what they have pulled is thrown away. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { REPOSITORY } from '../test/lib/images.ts'
import { has } from './engines.ts'
import type { BenchImage } from './image-maker.ts'
import { TOOLS } from './report.ts'
import { TMPFS } from './world.ts'

/** It takes none that is longer than 50 characters. */
const PODMAN_RUN = join(TMPFS, 'podman')

export interface PullSubject {
  readonly name: string
  /** undefined: not measured, for this reason. */
  readonly missing: string | undefined
  /** Of a daemon that works beside the commands; its time and memory count too. */
  readonly daemon?: () => number | undefined
  /** Commands that pull the images and unpack them, one after the other. */
  pull(images: readonly BenchImage[], which: 'all' | 'half'): (readonly string[])[]
  /** Makes it forget all images. */
  reset(): void
  stop?(): void
}

/** `registry` is HOST:PORT; `containerd` the address of a running one, whose images of the bench are removed. */
export function pullSubjects(
  directory: string,
  registry: string,
  containerd: string | undefined,
): PullSubject[] {
  return [
    berth(directory, registry),
    ctr(directory, registry, containerd),
    podman(directory, registry),
    umoci(directory, registry),
    floor(directory),
  ]
}

/** A directory of its own for each pull: ext4 without a journal is slow where much has just been deleted, and that is not what is measured. */
class Place {
  readonly #prefix: string
  #count = 0

  constructor(directory: string, name: string) {
    this.#prefix = join(directory, `${name}-${process.pid}`)
  }

  get path(): string {
    return `${this.#prefix}-${this.#count}`
  }

  renew(): void {
    rmSync(this.path, { recursive: true, force: true })
    this.#count++
  }
}

const named = (registry: string, image: BenchImage, which: 'all' | 'half'): string =>
  `${registry}/${image.repository}:${image.tags[which]}`

function berth(directory: string, registry: string): PullSubject {
  const place = new Place(directory, 'berth')
  return {
    name: 'berth',
    missing: undefined,
    pull: (images, which) =>
      images.map((image) => [
        ...[process.execPath, join(REPOSITORY, 'bin/berth.cjs')],
        ...['--root', join(place.path, 'root'), '--state', join(place.path, 'state')],
        ...['pull', '--quiet', named(registry, image, which)],
      ]),
    reset: () => place.renew(),
  }
}

/** containerd's own client. Where no address is given and the program is there, one of the bench's own is started. */
function ctr(directory: string, registry: string, given: string | undefined): PullSubject {
  const place = new Place(directory, 'containerd')
  const address = given ?? join(directory, 'containerd.socket')
  let daemon: ChildProcess | undefined
  const stop = (): void => {
    daemon?.kill('SIGTERM')
    daemon = undefined
  }
  const run = (...args: string[]) =>
    spawnSync('ctr', ['--address', address, '--namespace', 'bench', ...args], { encoding: 'utf8' })
  const start = (): void => {
    const own = place.path
    mkdirSync(own, { recursive: true })
    const config = join(own, 'config.toml')
    writeFileSync(
      config,
      `version = 2\nroot = "${own}/root"\nstate = "${own}/state"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "${address}"\n`,
    )
    daemon = spawn('containerd', ['--config', config], { stdio: 'ignore' })
    for (let i = 0; i < 100 && run('version').status !== 0; i++) spawnSync('sleep', ['0.1'])
  }
  const missing = given === undefined ? ['ctr', 'containerd'].find((p) => !has(p)) : undefined
  return {
    name: 'containerd (ctr)',
    missing: missing === undefined ? undefined : `${missing} is not installed`,
    daemon: () => daemon?.pid,
    pull: (images, which) =>
      images.map((image) => [
        ...['ctr', '--address', address, '--namespace', 'bench'],
        ...['images', 'pull', '--plain-http', named(registry, image, which)],
      ]),
    reset: () => {
      if (given === undefined) {
        stop()
        spawnSync('sleep', ['0.5'])
        place.renew()
        start()
        return
      }
      const names = run('images', 'list', '--quiet').stdout.split('\n').filter(Boolean)
      if (names.length > 0) run('images', 'remove', '--sync', ...names)
    },
    stop,
  }
}

function podman(directory: string, registry: string): PullSubject {
  const place = new Place(directory, 'podman')
  return {
    name: 'podman',
    missing: has('podman') ? undefined : 'podman is not installed',
    pull: (images, which) =>
      images.map((image) => [
        ...['podman', '--root', join(place.path, 'root'), '--runroot', PODMAN_RUN],
        ...['--storage-driver', 'overlay', '--cgroup-manager', 'cgroupfs'],
        ...['pull', '--quiet', '--tls-verify=false', named(registry, image, which)],
      ]),
    reset: () => {
      spawnSync('umount', ['--lazy', join(place.path, 'root/overlay')], { stdio: 'ignore' })
      rmSync(PODMAN_RUN, { recursive: true, force: true })
      place.renew()
    },
  }
}

function umoci(directory: string, registry: string): PullSubject {
  const place = new Place(directory, 'umoci')
  const missing = ['skopeo', 'umoci'].find((program) => !has(program))
  let count = 0
  return {
    name: 'skopeo+umoci',
    missing: missing === undefined ? undefined : `${missing} is not installed`,
    pull: (images, which) =>
      images.flatMap((image) => {
        const local = `${join(place.path, 'layout')}:${image.repository}-${image.tags[which]}`
        const source = `docker://${named(registry, image, which)}`
        return [
          ['skopeo', 'copy', '--quiet', '--src-tls-verify=false', source, `oci:${local}`],
          ['umoci', 'unpack', '--image', local, join(place.path, `bundle${count++}`)],
        ]
      }),
    reset: () => {
      place.renew()
      mkdirSync(place.path, { recursive: true })
    },
  }
}

/** What the plainest tools of the system take for the same layers, two at a time; it verifies nothing. */
function floor(directory: string): PullSubject {
  const place = new Place(directory, 'floor')
  return {
    name: TOOLS,
    missing: undefined,
    pull: (images, which) =>
      images.map(({ blobs, tags }) => {
        const unpack = tags.all === 'gzip' ? 'gzip -dc' : 'zstd -qdc'
        const script = `mkdir -p "$0/$$" && ${unpack} < "$1" | tar --extract --directory "$0/$$"`
        const count = which === 'all' ? blobs.length : Math.ceil(blobs.length / 2)
        return [
          ...[
            'sh',
            '-c',
            'd=$1 s=$2; shift 2; printf "%s\\0" "$@" | xargs -0 -n1 -P2 sh -c "$s" "$d"',
          ],
          ...['sh', place.path, script, ...blobs.slice(0, count)],
        ]
      }),
    reset: () => place.renew(),
  }
}
