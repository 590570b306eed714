/** Containers in user namespaces of their own: on the disk, in the processes, and from one to the other. */
import { lstatSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { berthOfFile } from '../lib/berth.ts'
import { needs } from '../lib/needs.ts'

needs('root', 'overlay', 'userns', 'cgroup2')

const { berth, nothingIsLeft } = berthOfFile()

interface Map {
  readonly inside: number
  readonly outside: number
  readonly size: number
}

function mapOf(text: string): Map {
  const [inside = -1, outside = -1, size = -1] = text.trim().split(/\s+/).map(Number)
  return { inside, outside, size }
}

/** A waiting container with `--userns auto`, what /proc says of it, and its directory of changes. */
async function mapped(
  given: readonly string[],
  use: (at: { name: string; pid: number; map: Map; upper: string }) => Promise<void>,
): Promise<void> {
  const id = await berth.ok([
    ...['run', '-d', '--net', 'none', '--userns', 'auto', ...given, 'hello', '/bin/sleep'],
  ])
  try {
    const [found] = JSON.parse(await berth.ok(['inspect', id])) as { State: { Pid: number } }[]
    assert.ok(found)
    const pid = found.State.Pid
    const map = mapOf(readFileSync(`/proc/${pid}/uid_map`, 'utf8'))
    await use({ name: id, pid, map, upper: join(berth.root, 'containers', id, 'upper') })
  } finally {
    await berth.ok(['rm', '--force', id])
  }
}

const exec = (name: string, ...verb: string[]): Promise<string> =>
  berth.ok(['exec', name, '/bin/probe', ...verb])

/** Every file below a directory, the directory itself left out. */
function tree(directory: string): string[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' }).sort()
}

test('two containers have ranges of ids that touch nowhere, and neither has one of the host', () =>
  mapped([], ({ map: one, pid }) =>
    mapped([], async ({ map: two, pid: other }) => {
      for (const map of [one, two]) {
        assert.is(map.inside, 0)
        assert.is(map.size, 65536)
        assert.ok(map.outside >= 65536)
      }
      assert.ok(one.outside + one.size <= two.outside || two.outside + two.size <= one.outside)
      assert.equal(mapOf(readFileSync(`/proc/${pid}/gid_map`, 'utf8')), one)
      // Root of each is that id on the host.
      assert.match(readFileSync(`/proc/${pid}/status`, 'utf8'), uids(one.outside))
      assert.match(readFileSync(`/proc/${other}/status`, 'utf8'), uids(two.outside))
    }),
  ))

const uids = (id: number): RegExp => new RegExp(`^Uid:\t${id}\t${id}\t${id}\t${id}$`, 'm')

test('the files of the layers are root’s inside and on the disk: nothing was copied or chowned', () =>
  mapped([], async ({ name, upper, map }) => {
    // Only places for mounts that the image lacks, if any; no file of the image.
    const places = tree(upper)
    assert.equal(
      places.filter(
        (path) => !/^(dev|proc|sys|etc(\/(hosts|hostname|resolv\.conf|mtab))?)$/.test(path),
      ),
      [],
    )
    assert.match(await exec(name, 'stat', '/bin/probe'), / 0:0 /)
    assert.match(await exec(name, 'stat', '/home/user'), / 1000:1000 /)
    const layers = join(berth.root, 'layers/sha256')
    for (const hex of readdirSync(layers)) {
      const { uid, gid } = lstatSync(join(layers, hex, 'tree/bin/probe'))
      assert.equal([uid, gid], [0, 0])
    }
    // What the container itself makes has its own id, and nobody's right on the host.
    await exec(name, 'write-file', '/root/made', 'x')
    assert.is(lstatSync(join(upper, 'root/made')).uid, map.outside)
    assert.match(await exec(name, 'stat', '/root/made'), / 0:0 /)
  }))

test('one layer serves a container with a range, one with another, and one without', () =>
  mapped([], ({ name: one }) =>
    mapped([], async ({ name: two }) => {
      const plain = await berth.ok([
        ...['run', '--rm', '--net', 'none', 'hello', '/bin/probe', 'stat', '/bin/probe'],
      ])
      assert.is(await exec(one, 'stat', '/bin/probe'), plain)
      assert.is(await exec(two, 'stat', '/bin/probe'), plain)
      assert.is(readdirSync(join(berth.root, 'layers/sha256')).length, 1)
    }),
  ))

test('a volume is the container’s with the ids of the inside on the disk, for each range', async () => {
  await mapped(['-v', 'shared:/data'], async ({ name }) => {
    await exec(name, 'write-file', '/data/one', 'first')
    await exec(name, 'chown', '1000:1000', '/data/one')
    await mapped(['-v', 'shared:/data'], async ({ name: other }) => {
      assert.match(await exec(other, 'stat', '/data/one'), / 1000:1000 /)
      assert.is(await exec(other, 'cat', '/data/one'), 'first')
    })
  })
  const [volume] = JSON.parse(await berth.ok(['volume', 'inspect', 'shared'])) as {
    path: string
  }[]
  assert.ok(volume)
  assert.is(lstatSync(join(volume.path, 'one')).uid, 1000)
  await berth.ok(['volume', 'rm', 'shared'])
})

test('a bind mount is idmapped when that is asked for, and nobody’s when not', async () => {
  const source = join(berth.directory, 'source')
  mkdirSync(source)
  writeFileSync(join(source, 'file'), 'of root', { mode: 0o600 })
  const mount = `type=bind,src=${source},dst=/data`
  await mapped(['--mount', `${mount},idmap`], async ({ name }) => {
    assert.match(await exec(name, 'stat', '/data/file'), / 0:0 /)
    assert.is(await exec(name, 'cat', '/data/file'), 'of root')
  })
  await mapped(['--mount', mount], async ({ name }) => {
    assert.match(await exec(name, 'stat', '/data/file'), / 65534:65534 /)
    const read = await berth.run(['exec', name, '/bin/probe', 'cat', '/data/file'])
    assert.match(read.stderr, /EACCES/)
  })
})

test('an exec is root inside and the same id of the host outside, or the user it asks for', () =>
  mapped([], async ({ name, map }) => {
    assert.match(await exec(name, 'id'), /^uid=0 gid=0/)
    assert.match(await berth.ok(['exec', '-u', '1000:7', name, '/bin/id']), /^uid=1000 gid=7/)
    await berth.ok(['exec', '--detach', name, '/bin/probe', 'sleep', '600'])
    const pids =
      (await berth.ok(['top', name, '--format', 'json'])).match(/(?<="pid": {0,9})\d+/gi) ?? []
    assert.ok(pids.length >= 2)
    for (const pid of pids) {
      assert.match(readFileSync(`/proc/${pid}/status`, 'utf8'), uids(map.outside))
    }
  }))

test('cp gives a file to root of the container, and takes one of it out', () =>
  mapped([], async ({ name }) => {
    const from = join(berth.directory, 'from')
    const to = join(berth.directory, 'to')
    writeFileSync(from, 'carried')
    await berth.ok(['cp', from, `${name}:/root/carried`])
    assert.match(await exec(name, 'stat', '/root/carried'), / 0:0 /)
    assert.is(await exec(name, 'cat', '/root/carried'), 'carried')
    await exec(name, 'write-file', '/root/back', 'and back')
    await berth.ok(['cp', `${name}:/root/back`, to])
    assert.is(readFileSync(to, 'utf8'), 'and back')
    assert.is(lstatSync(to).uid, 0)
  }))

test('root of the container cannot do what needs root of the host', () =>
  mapped(['--cap-add', 'ALL'], async ({ name }) => {
    const refused = async (reason: RegExp, ...verb: string[]): Promise<void> => {
      const { code, stderr } = await berth.run(['exec', name, '/bin/probe', ...verb])
      assert.is.not(code, 0, verb.join(' '))
      assert.match(stderr, reason)
    }
    await refused(/EPERM/, 'mknod', '/disk', 'b', '8', '0')
    await refused(/EACCES|EPERM|EROFS/, 'write-file', '/proc/sys/kernel/panic', '0')
  }))

test('nothing is left behind', nothingIsLeft)

test.run()
