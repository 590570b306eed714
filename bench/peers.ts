/** The CRI runtimes that are measured together, with a registry of the bench's own that has their image. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { busyboxImage } from '../test/lib/busybox.ts'
import { type DockerRegistry, dockerRegistry } from '../test/lib/docker-registry.ts'
import { REPOSITORY, writeOciArchive } from '../test/lib/images.ts'
import { missingContainerd, startContainerd } from './containerd.ts'
import { CriSubject, startBerth } from './cri-subject.ts'
import { quiet } from './engines.ts'
import { isOurs, leftOut, progress, toldPeer, turned } from './report.ts'

/** The chain that most clusters' bridges have. */
const NETWORK = {
  cniVersion: '1.0.0',
  name: 'bench',
  plugins: [
    {
      type: 'bridge',
      bridge: 'bench0',
      isGateway: true,
      ipMasq: true,
      hairpinMode: true,
      ipam: {
        type: 'host-local',
        ranges: [[{ subnet: '10.188.0.0/16' }]],
        routes: [{ dst: '0.0.0.0/0' }],
      },
    },
    { type: 'portmap', capabilities: { portMappings: true } },
    { type: 'firewall' },
    { type: 'tuning' },
  ],
}

export interface Peers {
  /** berth first. */
  readonly subjects: readonly CriSubject[]
  end(): Promise<void>
}

const interrupt = new AbortController()
/** By a signal: where nothing is under way, what the suite does throws, and so cleans up. */
export const interruption = interrupt.signal

/** Does it with each, in the order of the round; a peer that fails is left out from then on, for what it has measured so far says enough. */
export async function withEach<T extends { readonly subject: CriSubject }>(
  all: T[],
  act: (one: T) => Promise<void>,
  round = 0,
): Promise<void> {
  for (const one of turned(all, round)) {
    interruption.throwIfAborted()
    try {
      await act(one)
    } catch (error) {
      if (isOurs(one.subject.name) || interruption.aborted) throw error
      leftOut(`${one.subject.name}, from here on`, error)
      all.splice(all.indexOf(one), 1)
      // What it has running is not to slow down the others.
      await one.subject.removeAll().catch((reason) => leftOut(one.subject.name, reason))
    }
  }
}

/** `given` are other runtimes by `NAME=SOCKET[,HANDLER]`, which use the networks of /etc/cni/net.d: then berth does, too. */
export async function startPeers(options: {
  readonly directory: string
  readonly given: readonly string[]
  readonly image: string | undefined
  /** With each OCI runtime that is there below containerd, in place of the first. */
  readonly allRuntimes?: boolean
}): Promise<Peers> {
  const { directory, given, image } = options
  const isAlone = given.length === 0
  const networks = isAlone ? join(directory, 'networks') : '/etc/cni/net.d'
  if (isAlone) {
    mkdirSync(networks)
    writeFileSync(join(networks, '10-bench.conflist'), JSON.stringify(NETWORK))
  }
  progress('registry and daemons are started')
  const registry = image === undefined ? await ownRegistry(directory) : undefined
  const used = image ?? `${registry?.host}/busybox:latest`
  const subjects: CriSubject[] = []
  // In a world of the bench's own, that ends all of it.
  const left = isAlone ? [] : (['pods', ...(registry ? (['image'] as const) : [])] as const)
  const end = async (): Promise<void> => {
    // A daemon's own subject is before others of it.
    for (const subject of subjects.reverse()) await endOf(subject, left)
    await registry?.stop()
  }
  // Without a world of the bench's own, nothing else ends what is left.
  if (!isAlone)
    for (const signal of ['SIGINT', 'SIGTERM'] as const)
      process.once(signal, () => interrupt.abort(new Error(`interrupted by ${signal}`)))
  try {
    const berth = await startBerth({ directory, networks, image: used })
    subjects.push(berth)
    await berth.pull()
    for (const subject of await others(options, { networks, image: used })) {
      subjects.push(subject)
      try {
        await subject.pull()
        if (!isAlone) toldPeer(`${subject.name} (${await subject.version()})`)
      } catch (error) {
        leftOut(subject.name, error)
        subjects.splice(subjects.indexOf(subject), 1)
        await endOf(subject, [])
      }
    }
    return { subjects: [...subjects], end }
  } catch (error) {
    await end()
    throw error
  }
}

/** What one of these cannot do keeps it from none of the others. */
async function endOf(subject: CriSubject, left: readonly ('pods' | 'image')[]): Promise<void> {
  const steps = [
    ...(left.includes('pods') ? [() => subject.removeAll()] : []),
    ...(left.includes('image') ? [() => subject.removeImage()] : []),
    () => subject.end(),
  ]
  for (const step of steps)
    await step().catch((error) => leftOut(`the end of ${subject.name}`, error))
}

async function others(
  { directory, given, allRuntimes = false }: Parameters<typeof startPeers>[0],
  { networks, image }: { readonly networks: string; readonly image: string },
): Promise<CriSubject[]> {
  if (given.length > 0) return given.map((text) => parsePeer(text, image))
  try {
    const missing = missingContainerd()
    if (missing !== undefined) throw new Error(missing)
    const all = await startContainerd({ directory, networks, image, pause: image })
    return allRuntimes ? all : all.slice(0, 1)
  } catch (error) {
    leftOut('containerd', error)
    return []
  }
}

function parsePeer(text: string, image: string): CriSubject {
  const [, name, socket, handler = ''] = /^([^=]+)=([^,]+)(?:,(.*))?$/.exec(text) ?? []
  if (name === undefined || socket === undefined)
    throw new Error(`--peer ${text}: must be NAME=SOCKET or NAME=SOCKET,HANDLER`)
  return new CriSubject({ name, socket, handler, image })
}

/** With a busybox whose own program sleeps: it is a pause image, too. */
async function ownRegistry(directory: string): Promise<DockerRegistry> {
  const registry = await dockerRegistry(directory, 'bench')
  const name = `${registry.host}/busybox:latest`
  const archive = join(directory, 'busybox.tar')
  const config = { Cmd: ['sleep', '2147483647'], Env: ['PATH=/bin'] }
  writeOciArchive(archive, [busyboxImage(name, config)])
  const berth = [
    ...[process.execPath, join(REPOSITORY, 'bin/berth.cjs')],
    ...['--root', join(directory, 'push/root'), '--state', join(directory, 'push/state')],
  ]
  quiet(berth, 'load', '--quiet', '--input', archive)
  quiet(berth, 'push', '--quiet', name)
  return registry
}
