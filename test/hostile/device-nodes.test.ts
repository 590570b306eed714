/** Devices and fifos that an image brings along: made as they are, of no use against the host. */
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { berthOfFile } from '../lib/berth.ts'
import { HELLO_CONFIG, helloEntries, type TarEntry, writeOciArchive } from '../lib/images.ts'
import { needs } from '../lib/needs.ts'

needs('root', 'overlay', 'cgroup2', 'userns')

const { berth, nothingIsLeft } = berthOfFile()
const NODES: TarEntry[] = [
  { name: 'nodes/', type: 'directory' },
  { name: 'nodes/memory', type: 'char', major: 1, minor: 1, mode: 0o666 },
  { name: 'nodes/kmsg', type: 'char', major: 1, minor: 11, mode: 0o666 },
  { name: 'nodes/disk', type: 'block', major: 7, minor: 0, mode: 0o666 },
  { name: 'nodes/null', type: 'char', major: 1, minor: 3, mode: 0o666 },
  { name: 'nodes/fifo', type: 'fifo', mode: 0o666 },
]
const USERS: [name: string, options: string[]][] = [
  ['without a user namespace', []],
  ['under a user namespace', ['--userns', 'auto']],
  ['with every capability', ['--cap-add', 'ALL']],
]

test('an image with device nodes loads', async () => {
  const archive = join(berth.directory, 'nodes.tar')
  const layers = [helloEntries(), NODES]
  writeOciArchive(archive, [{ name: 'nodes:1', layers, config: HELLO_CONFIG }])
  await berth.ok(['load', '-i', archive])
})

for (const [name, options] of USERS) {
  const run = (...command: string[]) =>
    berth.run(['run', '--rm', '--net', 'none', ...options, 'nodes:1', 'probe', ...command])

  test(`${name}: the nodes are there, and those of the host's memory, log and disks do not open`, async () => {
    const { stdout } = await run('stat', '/nodes/memory', '/nodes/disk', '/nodes/fifo')
    assert.match(stdout, /memory char.* 1:1\n.*disk block.* 7:0\n.*fifo fifo/)
    for (const node of ['memory', 'kmsg', 'disk']) {
      for (const mode of ['r', 'w']) {
        const { code, stderr } = await run('open', `/nodes/${node}`, mode)
        assert.is.not(code, 0)
        assert.match(stderr, /EPERM|EACCES/)
      }
    }
  })

  test(`${name}: a node that a program makes itself does not open either`, async () => {
    const { code, stderr } = await run('mknod', '/tmp/own', 'b', '7', '0')
    if (code === 0) {
      const opened = await run('open', '/tmp/own', 'r')
      assert.is.not(opened.code, 0)
    } else {
      assert.match(stderr, /EPERM/)
    }
  })
}

test('a working directory that is a fifo is refused and not waited for', async () => {
  const run = [
    'run',
    '--rm',
    '--net',
    'none',
    '--userns',
    'auto',
    '-w',
    '/nodes/fifo',
    'nodes:1',
    'pwd',
  ]
  const { code, stderr } = await berth.run(run, { timeoutMs: 20_000 })
  assert.is.not(code, 0)
  assert.match(stderr, /\/nodes\/fifo/)
})

test('nothing is left behind', nothingIsLeft)

test.run()
