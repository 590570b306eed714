import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdirSync, readdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { type Berth, withBerth } from '../lib/berth.ts'
import { writeOciArchive } from '../lib/images.ts'
import { needs } from '../lib/needs.ts'

needs('root', 'overlay', 'cgroup2', 'program:mount')

/** Room for the built-in image and some containers. */
const SIZE = '6m'

/** A berth whose root is a small file system of its own; `fill` takes all that is left, `free` gives it back. */
async function withSmallDisk(
  use: (berth: Berth, disk: { fill: () => void; free: () => void }) => Promise<void>,
): Promise<void> {
  await withBerth(async (berth) => {
    mkdirSync(berth.root)
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${SIZE}`, 'tmpfs', berth.root])
    const ballast = join(berth.root, 'ballast')
    try {
      await use(berth, {
        fill: () => {
          const { bavail, bsize } = statfsSync(berth.root)
          writeFileSync(ballast, Buffer.alloc(bavail * bsize))
        },
        free: () => rmSync(ballast),
      })
      await berth.removeContainers()
    } finally {
      execFileSync('umount', ['--lazy', berth.root])
    }
  })
}

const run = ['run', '-d', '--net', 'none']

test('a running container is removed from a full disk', async () => {
  await withSmallDisk(async (berth, disk) => {
    await berth.ok([...run, '--name', 'a', 'hello', 'probe', 'sleep', '1000'])
    disk.fill()
    await berth.ok(['rm', '-f', 'a'])
    assert.is(await berth.ok(['ps', '-aq']), '')
  })
})

test('an end on a full disk is known at once, and kept when there is room again', async () => {
  await withSmallDisk(async (berth, disk) => {
    await berth.ok([...run, '--name', 'a', 'hello', 'probe', 'trap', '1000'])
    disk.fill()
    await berth.ok(['kill', '-s', 'KILL', 'a'])
    assert.is(await berth.ok(['wait', 'a']), '137')
    assert.match(await berth.ok(['ps', '-a']), /Exited/)
    await berth.refused(['run', '--rm', '--net', 'none', 'hello', 'probe', 'true'], /no space left/)
    disk.free()
    await berth.ok(['start', 'a'])
    await berth.ok(['kill', '-s', 'KILL', 'a'])
    assert.is(await berth.ok(['wait', 'a']), '137')
    assert.match(await berth.ok(['ps', '-a']), /Exited \(137\)/)
  })
})

test('a stopped container whose monitor waits for room is removed too', async () => {
  await withSmallDisk(async (berth, disk) => {
    await berth.ok([...run, '--name', 'a', 'hello', 'probe', 'sleep', '1000'])
    disk.fill()
    await berth.ok(['kill', '-s', 'KILL', 'a'])
    await berth.ok(['wait', 'a'])
    await berth.ok(['container', 'prune', '--force'])
    assert.is(await berth.ok(['ps', '-aq']), '')
  })
})

test('load, tag and save say which disk is full and leave nothing; rmi makes room on it', async () => {
  await withSmallDisk(async (berth, disk) => {
    const archive = (name: string, bytes: number): string => {
      const path = join(berth.directory, `${name}.tar`)
      writeOciArchive(path, [
        { name: `q.io/${name}:1`, layers: [[{ name: 'file', content: randomBytes(bytes) }]] },
      ])
      return path
    }
    const content = (): string[] =>
      [
        'images/blobs/sha256',
        'images/ingest',
        'images/names',
        'images/records',
        'layers/tmp',
        'layers/sha256',
      ]
        .flatMap((place) => readdirSync(join(berth.root, place)).map((name) => `${place}/${name}`))
        .sort()
    await berth.ok(['load', '-q', '-i', archive('small', 100_000)])
    const before = content()
    await berth.refused(['load', '-q', '-i', archive('big', 12_000_000)], /no space .*\/root\//)
    await berth.ok(['image', 'prune', '-f'])
    assert.equal(content(), before)
    disk.fill()
    await berth.refused(['tag', 'q.io/small:1', 'q.io/other:1'], /no space .*\/root\/images\/names/)
    const saved = join(berth.root, 'saved.tar')
    await berth.refused(['save', '-q', '-o', saved, 'q.io/small:1'], /no space .*saved\.tar/)
    assert.not.ok(readdirSync(berth.root).some((name) => name.includes('saved')))
    assert.equal(content(), before)
    await berth.ok(['rmi', 'q.io/small:1'])
    assert.equal(content(), [])
  })
})

test('build says that the disk is full, and leaves nothing', async () => {
  await withSmallDisk(async (berth) => {
    const directory = join(berth.directory, 'context')
    mkdirSync(directory)
    writeFileSync(join(directory, 'big'), randomBytes(8_000_000))
    const content = (): string[] =>
      ['images/ingest', 'layers/tmp', 'layers/sha256', 'containers'].flatMap((path) =>
        readdirSync(join(berth.root, path)),
      )
    await berth.ok(['create', '--net', 'none', '--name', 'c', 'hello'])
    const before = content()
    const { code, stderr } = await berth.run(['build', '-f', '-', directory], {
      input: 'FROM hello\nCOPY big /big\n',
    })
    assert.is(code, 125)
    assert.match(stderr, /line 2: no space is left/)
    assert.equal(content(), before)
  })
})

test.run()
