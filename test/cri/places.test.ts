/** Where a pod's files in /etc are mounted: on a layer below the image's, so that nothing is made for them in the container's own; whatever the image has there. */
import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { CriDaemon, exited, logLines, runContainer, runPod } from '../lib/cri.ts'
import { probeImage, type TarEntry, writeLayout } from '../lib/images.ts'
import { needing, needs } from '../lib/needs.ts'
import { testDirectory, traces } from '../lib/traces.ts'
import { userns } from '../unit/pod/config.ts'

needs('root', 'overlay', 'cgroup2')

const daemon = new CriDaemon()
const layout = testDirectory()
const clean = traces({ roots: [daemon.berth.directory, layout] })
const places = join(daemon.berth.root, 'pod-places')

const directory = (name: string, mode: number): TarEntry => ({ name, type: 'directory', mode })

/** What /etc is in an image, and what its container then has in its own layer. */
const IMAGES: readonly {
  readonly name: string
  readonly entries: readonly TarEntry[]
  readonly mode?: number
  readonly made?: readonly string[]
}[] = [
  { name: 'nothing', entries: [] },
  { name: 'a directory of some mode', entries: [directory('etc/', 0o751)], mode: 0o751 },
  {
    name: 'files of its own',
    entries: [directory('etc/', 0o755), { name: 'etc/hosts', content: 'of the image\n' }],
  },
  {
    name: 'a link',
    entries: [
      directory('usr/', 0o755),
      directory('usr/etc/', 0o750),
      { name: 'etc', type: 'symlink', to: 'usr/etc' },
    ],
    mode: 0o750,
    made: ['usr'],
  },
  {
    name: 'a directory that hides all below',
    entries: [directory('etc/', 0o711), { name: 'etc/.wh..wh..opq' }],
    mode: 0o711,
    made: ['etc'],
  },
  {
    name: 'a name that was removed',
    entries: [directory('etc/', 0o755), { name: 'etc/.wh.hostname' }],
    made: ['etc'],
  },
]

const LOOK = ['probe', 'stat', '/etc/.', '/etc/hosts', '/etc/hostname', '/etc/resolv.conf']

/** What a new container of the image says of /etc, each with type and mode, and what is in its own layer of that. */
async function look(image: string, usernsOptions = userns({ mode: 'NODE', uids: [], gids: [] })) {
  const namespaceOptions = { network: 'NODE', pid: 'CONTAINER', ipc: 'POD', usernsOptions } as const
  const linux = { securityContext: { namespaceOptions } }
  const pod = await runPod(daemon, { linux })
  const logPath = 'look.log'
  const id = await runContainer(daemon, pod, LOOK, { image: { image }, logPath, linux })
  assert.is((await exited(daemon, id)).exitCode, 0)
  const lines = logLines(join(pod.config.logDirectory ?? '', logPath))
  const upper = join(daemon.berth.root, 'pods', pod.id, 'containers', id, 'upper')
  const made = readdirSync(upper).filter((name) => ['etc', 'usr'].includes(name))
  await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
  return { said: lines.map((line) => line.split(' ').slice(0, 4).join(' ')), made }
}

const seen = (mode: number): string[] => [
  `/etc/. directory ${mode.toString(8).padStart(4, '0')} 0:0`,
  ...['hosts', 'hostname', 'resolv.conf'].map((name) => `/etc/${name} file 0644 0:0`),
]

test('the daemon starts, with all images', async () => {
  const images = IMAGES.map(({ entries }, i) => probeImage(`localhost/etc:${i}`, [...entries]))
  writeLayout(layout, images)
  await daemon.berth.ok(['load', '--input', layout])
  await daemon.start()
})

for (const [i, { name, mode = 0o755, made = [] }] of IMAGES.entries()) {
  test(`an image whose /etc is ${name}`, async () => {
    assert.equal(await look(`localhost/etc:${i}`), { said: seen(mode), made })
  })
}

needing(test, 'userns')('users of a pod’s own', async () => {
  assert.equal(await look('localhost/etc:0', userns()), { said: seen(0o755), made: [] })
})

test('what somebody has removed is made again, and half of it is not taken', async () => {
  rmSync(places, { recursive: true })
  mkdirSync(`${places}.tmp-made/etc/hosts`, { recursive: true })
  assert.equal(await look('localhost/etc:0'), { said: seen(0o755), made: [] })
  assert.equal(readdirSync(join(places, 'etc')).sort(), ['hostname', 'hosts', 'resolv.conf'])
  assert.not.ok(existsSync(`${places}.tmp-made`))
})

test('nothing is left behind', async () => {
  await daemon.destroy()
  rmSync(layout, { recursive: true })
  await clean()
})

test.run()
