/** The CRI runtimes that are measured together, with a registry of the bench's own that has their image. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { busyboxImage } from '../test/lib/busybox.ts'
import { type DockerRegistry, dockerRegistry } from '../test/lib/docker-registry.ts'
import { REPOSITORY, writeOciArchive } from '../test/lib/images.ts'
import { missingContainerd, startContainerd } from './containerd.ts'
import { CriSubject, startBerth } from './cri-subject.ts'
import { quiet } from './engines.ts'

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

/** Does it with each; a peer that fails is left out from then on, for what it has measured so far says enough. */
export async function withEach<T extends { readonly subject: CriSubject }>(
  all: T[],
  act: (one: T) => Promise<void>,
  by = 0,
): Promise<void> {
  const turned = all.map((_, i) => all[(i + by) % all.length] as T)
  for (const one of turned) {
    try {
      await act(one)
    } catch (error) {
      if (one.subject === all[0]?.subject) throw error
      process.stdout.write(`${one.subject.name}: left out from here on: ${String(error)}\n`)
      all.splice(all.indexOf(one), 1)
    }
  }
}

/** `given` are other runtimes by `NAME=SOCKET[,HANDLER]`, which use the networks of /etc/cni/net.d: then berth does, too. */
export async function startPeers(
  directory: string,
  given: readonly string[],
  image: string | undefined,
): Promise<Peers> {
  const networks = given.length > 0 ? '/etc/cni/net.d' : join(directory, 'networks')
  if (given.length === 0) {
    mkdirSync(networks)
    writeFileSync(join(networks, '10-bench.conflist'), JSON.stringify(NETWORK))
  }
  const registry = image === undefined ? await ownRegistry(directory) : undefined
  const used = image ?? `${registry?.host}/busybox:latest`
  const subjects: CriSubject[] = []
  const end = async (): Promise<void> => {
    for (const subject of subjects) await subject.end()
    await registry?.stop()
  }
  try {
    subjects.push(await startBerth({ directory, networks, image: used }))
    for (const text of given) subjects.push(parsePeer(text, used))
    if (given.length === 0) {
      const missing = missingContainerd()
      if (missing === undefined)
        subjects.push(await startContainerd({ directory, networks, image: used, pause: used }))
      else process.stdout.write(`containerd: left out: ${missing}\n`)
    }
    for (const subject of subjects) await subject.pull()
    return { subjects, end }
  } catch (error) {
    await end()
    throw error
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
