/** `checkpoint` and `restore` by CRIU, by hand and by podman. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { criuEnvironment } from '../lib/criu.ts'
import { eventually } from '../lib/eventually.ts'
import { needing, needs } from '../lib/needs.ts'
import { ociOfFile } from '../lib/oci.ts'
import { BOX, Podman } from '../lib/podman.ts'

needs('root', 'cgroup2', 'program:busybox', 'program:python3')
process.env = criuEnvironment()

const { oci, nothingIsLeft } = ociOfFile()
const at = (name: string) => join(oci.directory, name)

/** Counts the lines that it reads: what it has counted is in its memory only. */
const COUNTER = 'n=0; while read line; do n=$((n + 1)); echo "$n $line"; done'

/** `run` or `restore` in the foreground, with pipes. */
class Talk {
  readonly child: ChildProcess
  said = ''

  constructor(args: readonly string[]) {
    // By pipes: what spawn() makes are sockets, whose other end CRIU does not have.
    const script = 'set -o pipefail; cat | "$@" 2>&1 | cat'
    this.child = spawn('bash', ['-c', script, 'bash', ...oci.command, ...args], { stdio: 'pipe' })
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream?.on('data', (bytes: Buffer) => {
        this.said += bytes.toString()
      })
    }
  }

  async says(line: string, answer: string): Promise<void> {
    this.child.stdin?.write(`${line}\n`)
    await eventually(`it says ${answer}, not ${this.said}`, () => this.said.includes(answer))
  }

  async end(): Promise<number> {
    const ended = new Promise<number>((resolve) => {
      this.child.once('exit', (code) => resolve(code ?? 128))
    })
    this.child.stdin?.end()
    return await ended
  }
}

/** A PATH where tar(1) waits, by which CRIU writes and reads what is in a tmpfs: by then all is stopped, and the network is locked. */
function waitingTar(name: string) {
  const [directory, there, go] = [at(`${name}-bin`), at(`${name}-there`), at(`${name}-go`)]
  mkdirSync(directory)
  const script = `#!/bin/sh\n: >${there}\nuntil [ -e ${go} ]; do sleep 0.05; done\n`
  writeFileSync(join(directory, 'tar'), script)
  chmodSync(join(directory, 'tar'), 0o755)
  return {
    env: { ...process.env, PATH: `${directory}:${process.env['PATH'] ?? ''}` },
    isThere: () => existsSync(there),
    letGo: () => writeFileSync(go, ''),
  }
}

test('a container goes on from its images with what it had in memory, in files and as stdio', async () => {
  const bundle = oci.bundle('count', `mkdir /tmp; echo kept >/tmp/file; ${COUNTER}`, (spec) => {
    mkdirSync(at('volume'))
    writeFileSync(at('volume/file'), 'of the host')
    const bind = {
      destination: '/volume/inner',
      type: 'bind',
      source: at('volume'),
      options: ['rbind'],
    }
    spec.mounts = [
      ...(spec.mounts ?? []),
      { destination: '/tmp', type: 'tmpfs', source: 'tmpfs' },
      bind,
      { ...bind, destination: '/volume/inner/deep' },
    ]
  })
  const first = new Talk(['run', '--bundle', bundle, 'count'])
  await first.says('one', '1 one')
  await oci.ok(['checkpoint', '--image-path', at('images'), '--work-path', at('work'), 'count'])
  assert.is.not(await first.end(), 0, 'the one before was killed')
  await oci.refused(['state', 'count'], /does not exist/)
  assert.ok(existsSync(at('images/inventory.img')) && existsSync(at('work/dump.log')))

  const restore = [
    'restore',
    '--bundle',
    bundle,
    '--image-path',
    at('images'),
    '--pid-file',
    at('pid'),
  ]
  const second = new Talk([...restore, 'again'])
  await second.says('two', '2 two')
  const state = JSON.parse(await oci.ok(['state', 'again'])) as Record<string, unknown>
  assert.is(state['status'], 'running')
  assert.is(String(state['pid']), readFileSync(at('pid'), 'utf8'))
  const look = 'cat /tmp/file /volume/inner/file /volume/inner/deep/file; cat /proc/self/cgroup'
  const seen = await oci.ok(['exec', 'again', 'sh', '-c', look])
  assert.match(seen, /^kept\nof the hostof the host/)
  const pids = readFileSync(join(oci.cgroup('count'), 'cgroup.procs'), 'utf8')
  assert.match(pids, new RegExp(`^${state['pid']}$`, 'm'), 'in the cgroup of the configuration')
  await oci.refused(['start', 'again'], /is running, not created/)
  assert.is(await second.end(), 0, 'the end of its input ends it')
  assert.not.ok(existsSync(oci.cgroup('count')))
})

test('a failure of CRIU is told with its own words, and changes nothing', async () => {
  const bundle = oci.bundle('stay', 'while :; do sleep 1; done')
  await oci.create('stay')
  await oci.refused(['checkpoint', '--image-path', at('stay-1'), 'stay'], /is created, not running/)
  await oci.ok(['start', 'stay'])
  const failed = await oci.run([
    'checkpoint',
    '--leave-running',
    '--image-path',
    at('stay-1'),
    'stay',
  ])
  // Its stdout is a file of the host, which CRIU says.
  assert.is(failed.code, 1)
  assert.match(failed.stderr, /CRIU has failed.*dump\.log says: .*Error/)
  assert.is(await oci.status('stay'), 'running', 'a failure changes nothing')
  await oci.ok(['delete', '--force', 'stay'])
  assert.ok(existsSync(bundle))
})

test('a container may run on, and one that is paused runs again', async () => {
  const bundle = oci.bundle('left', COUNTER)
  const first = new Talk(['run', '--bundle', bundle, 'left'])
  await first.says('one', '1 one')
  await oci.ok(['checkpoint', '--leave-running', '--image-path', at('left-1'), 'left'])
  await first.says('two', '2 two')
  await oci.ok(['pause', 'left'])
  await oci.ok(['checkpoint', '--image-path', at('left-2'), 'left'])
  assert.is.not(await first.end(), 0)
  const second = new Talk(['restore', '--bundle', bundle, '--image-path', at('left-2'), 'left'])
  await second.says('three', '3 three')
  await oci.refused(
    ['restore', '--bundle', bundle, '--image-path', at('left-2'), 'left'],
    /already exists/,
  )
  assert.is(await oci.status('left'), 'running')
  assert.is(await second.end(), 0)
})

test('what cannot be is refused and leaves nothing', async () => {
  const bundle = oci.bundle('bad', COUNTER)
  const restore = (images: string, ...more: string[]) => [
    'restore',
    '--bundle',
    bundle,
    '--image-path',
    images,
    ...more,
    'bad',
  ]
  await oci.refused(restore(at('nowhere')), /--image-path .*nowhere is no directory/)
  mkdirSync(at('empty'))
  await oci.refused(restore(at('empty')), /there is no checkpoint in/)
  writeFileSync(at('empty/descriptors.json'), '["pipe:[1]", 2]')
  await oci.refused(restore(at('empty')), /no list of at most 3 texts/)
  writeFileSync(at('empty/descriptors.json'), '["/dev/null"]')
  await oci.refused(restore(at('empty')), /cannot restore container bad: .*CRIU has failed/)
  assert.not.ok(existsSync(join(oci.root, 'bad')))
  assert.not.ok(existsSync(oci.cgroup('bad')))
  await oci.refused(restore(at('empty'), '--lazy-pages'), /--lazy-pages is not supported/)
  await oci.refused(
    restore(at('empty'), '--manage-cgroups-mode', 'odd'),
    /odd is none of ignore, soft/,
  )
  await oci.refused(restore(at('empty'), '--empty-ns', 'user'), /--empty-ns user is not supported/)
  await oci.refused(['checkpoint', '--image-path', at('x'), 'nobody'], /does not exist/)
  const { code, stderr } = await oci.run(restore(at('empty')), {
    env: { ...process.env, PATH: '/nowhere' },
  })
  assert.is(code, 1)
  assert.match(stderr, /install the package criu/)
})

test('images that nobody vouches for can neither hang a restore nor lead it to write elsewhere', async () => {
  const bundle = oci.bundle('hostile', COUNTER)
  const images = at('hostile-images')
  mkdirSync(images)
  const restore = ['restore', '--bundle', bundle, '--image-path', images, 'hostile']
  const file = (name: string) => join(images, name)

  execFileSync('mkfifo', [file('descriptors.json')])
  await oci.refused(restore, /descriptors\.json.* not a regular file/)
  rmSync(file('descriptors.json'))
  writeFileSync(file('descriptors.json'), `["${'x'.repeat(65_536)}"]`)
  await oci.refused(restore, /descriptors\.json.* larger than 65536 bytes/)
  writeFileSync(file('descriptors.json'), '["/dev/null"]')
  writeFileSync(file('cgroup.img'), Buffer.concat([Buffer.alloc(12), Buffer.of(0x12, 0xff)]))
  await oci.refused(restore, /cgroup\.img is not what CRIU writes/)
  rmSync(file('cgroup.img'))

  writeFileSync(at('victim'), 'Error (of an earlier call)')
  symlinkSync(at('victim'), file('restore.log'))
  symlinkSync(at('victim'), file('stats-restore'))
  const early = await oci.run([...restore, '--empty-ns', 'user'])
  assert.match(early.stderr, /--empty-ns user is not supported/)
  assert.not.match(early.stderr, /earlier call/)
  await oci.refused(restore, /CRIU has failed.*restore\.log says: .*Error/)
  assert.is(readFileSync(at('victim'), 'utf8'), 'Error (of an earlier call)')
  assert.ok(lstatSync(file('restore.log')).isFile())
  assert.not.ok(existsSync(oci.cgroup('hostile')))
})

test('a checkpoint that is interrupted is taken back: the container goes on, and its network, too', async () => {
  const bundle = oci.bundle('halted', COUNTER)
  const first = new Talk(['run', '--bundle', bundle, 'halted'])
  await first.says('one', '1 one')
  const { env, isThere, letGo } = waitingTar('halted')
  const [node, ...words] = oci.command
  const args = [...words, 'checkpoint', '--image-path', at('halted-1'), 'halted']
  const child = spawn(node, args, { stdio: 'ignore', env, detached: true })
  await eventually('CRIU is in the middle of it', isThere)
  assert.type(child.pid, 'number')
  // As a terminal does it.
  process.kill(-(child.pid ?? 0), 'SIGINT')
  await eventually('it has ended', () => child.exitCode !== null || child.signalCode !== null)
  letGo()
  await first.says('two', '2 two')
  const { pid } = JSON.parse(await oci.ok(['state', 'halted'])) as { pid: number }
  const ping = ['busybox', 'ping', '-c', '1', '-W', '5', '127.0.0.1']
  execFileSync('nsenter', ['--net', '--target', String(pid), ...ping])
  await oci.ok(['checkpoint', '--image-path', at('halted-2'), 'halted'])
  await first.end()
})

test('a restore that is killed leaves no process', async () => {
  const { env, isThere } = waitingTar('cut')
  const [node, ...words] = oci.command
  const args = ['restore', '--bundle', at('halted'), '--image-path', at('halted-2'), 'cut']
  const child = spawn(node, [...words, ...args], { stdio: 'ignore', env })
  await eventually('CRIU is in the middle of it', isThere)
  const events = join(oci.cgroup('halted'), 'cgroup.events')
  assert.match(readFileSync(events, 'utf8'), /populated 1/)
  child.kill('SIGKILL')
  await eventually('nothing lives in it', () =>
    readFileSync(events, 'utf8').includes('populated 0'),
  )
  await oci.ok(['delete', '--force', 'cut'])
  assert.not.ok(existsSync(oci.cgroup('halted')))
})

needing(
  test,
  'program:podman',
  'program:conmon',
  'overlay',
)(
  'podman writes a checkpoint into an archive and restores it, under another name, too',
  async () => {
    const podman = new Podman()
    try {
      await podman.prepare()
      const script =
        'echo one >/written; n=0; while :; do n=$((n + 1)); echo $n >/next; mv /next /count; sleep 0.1; done'
      await podman.ok(['run', '-d', '--name', 'moved', BOX, 'sh', '-c', script])
      const count = async (name: string) => Number(await podman.ok(['exec', name, 'cat', '/count']))
      await eventually('it counts', async () => (await count('moved')) > 3)
      await podman.ok(['container', 'checkpoint', 'moved'])
      assert.is(await podman.ok(['inspect', '-f', '{{.State.Status}}', 'moved']), 'exited')
      await podman.ok(['container', 'restore', 'moved'])
      const before = await count('moved')
      assert.ok(before > 3, 'it counts on')
      assert.is(await podman.ok(['exec', 'moved', 'cat', '/written']), 'one')
      await podman.ok([
        'container',
        'checkpoint',
        '--export',
        join(podman.directory, 'c.tar'),
        'moved',
      ])
      await podman.ok(['rm', '--force', '--time', '0', 'moved'])
      await podman.ok([
        'container',
        'restore',
        '--import',
        join(podman.directory, 'c.tar'),
        '--name',
        'other',
      ])
      assert.ok((await count('other')) >= before)
    } finally {
      await podman.destroy()
    }
  },
)

test('nothing is left behind', nothingIsLeft)

test.run()
