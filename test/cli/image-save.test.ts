/** What berth saves is the same image for berth, podman, skopeo and umoci: same digests, same trees. */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Berth, berthOfFile } from '../lib/berth.ts'
import { eventually } from '../lib/eventually.ts'
import { probeImage, writeLayout } from '../lib/images.ts'
import { needs } from '../lib/needs.ts'

needs('root', 'program:skopeo', 'program:umoci', 'program:podman')

const { berth, nothingIsLeft } = berthOfFile()
const at = (name: string): string => join(berth.directory, name)
const run = (program: string, ...args: string[]): string =>
  execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })

interface Listed {
  id: string
  manifest: string
  names: string[]
}
const listed = async (other: Berth): Promise<Listed[]> =>
  JSON.parse(await other.ok(['images', '--format', 'json'])) as Listed[]

/** A berth beside, that knows nothing. */
async function elsewhere(use: (other: Berth) => Promise<void>): Promise<void> {
  const other = new Berth()
  try {
    await use(other)
  } finally {
    other.destroy()
  }
}

const digestOf = (path: string): string =>
  createHash('sha256').update(readFileSync(path)).digest('hex')

test('two images and a second tag are made', async () => {
  const layers = [
    { name: 'etc/', type: 'directory' as const, mode: 0o750, uid: 7, gid: 8 },
    { name: 'etc/file', content: 'content\n', mode: 0o4755 },
    { name: 'etc/link', type: 'symlink' as const, to: 'file' },
  ]
  writeLayout(at('layout'), [
    probeImage('q.io/team/a:1', layers),
    probeImage('q.io/team/b:2', layers, [{ name: 'etc/.wh.link', content: '' }]),
  ])
  await berth.ok(['load', '-q', '-i', at('layout')])
  await berth.ok(['tag', 'q.io/team/a:1', 'a:latest'])
})

for (const format of ['docker-archive', 'oci-archive', 'docker-dir', 'oci-dir']) {
  test(`${format}: berth loads all images, names and digests again`, async () => {
    const names = ['q.io/team/a:1', 'q.io/team/b:2', 'a']
    await berth.ok(['save', '-q', '--format', format, '-o', at(`all.${format}`), ...names])
    await elsewhere(async (other) => {
      await other.ok(['load', '-q', '-i', at(`all.${format}`)])
      assert.equal(strip(await listed(other)), strip(await listed(berth)))
      // Saved there it has the same bytes, in whatever order the names are given.
      await other.ok([
        'save',
        '-q',
        '--format',
        format,
        '-o',
        at(`again.${format}`),
        ...names.reverse(),
      ])
    })
    if (format.endsWith('archive')) {
      assert.is(digestOf(at(`again.${format}`)), digestOf(at(`all.${format}`)))
    }
  })
}

function strip(images: Listed[]): unknown {
  return images
    .map(({ id, manifest, names }) => ({ id, manifest, names }))
    .sort((a, b) => a.id.localeCompare(b.id))
}

test('through pipes: save without -o into load without -i', async () => {
  const save = berth.spawn(['save', '-q', 'q.io/team/b:2'])
  save.stdin.end()
  const parts: Buffer[] = []
  for await (const part of save.stdout) parts.push(part as Buffer)
  const archive = Buffer.concat(parts)
  await berth.ok(['save', '-q', '-o', at('b.tar'), 'q.io/team/b:2'])
  assert.ok(archive.equals(readFileSync(at('b.tar'))))
  await elsewhere(async (other) => {
    await other.ok(['load', '-q'], { input: archive })
    assert.equal(
      (await listed(other)).map(({ names }) => names),
      [['q.io/team/b:2']],
    )
  })
})

test('an image saved by its id has no name', async () => {
  const [image] = await listed(berth)
  await berth.ok(['save', '-q', '-o', at('id.tar'), image?.id ?? ''])
  await elsewhere(async (other) => {
    await other.ok(['load', '-q', '-i', at('id.tar')])
    assert.equal(strip(await listed(other)), strip([{ ...(image as Listed), names: [] }]))
  })
})

test('skopeo sees the same digests in every format, and copies them on', async () => {
  const [a] = (await listed(berth)).filter(({ names }) => names.includes('q.io/team/a:1'))
  await berth.ok(['save', '-q', '--format', 'oci-archive', '-o', at('a.oci.tar'), 'q.io/team/a:1'])
  const oci = JSON.parse(run('skopeo', 'inspect', `oci-archive:${at('a.oci.tar')}`)) as {
    Digest: string
  }
  assert.is(oci.Digest, a?.manifest)
  run('skopeo', 'inspect', `oci:${at('all.oci-dir')}:q.io/team/b:2`)
  run('skopeo', 'copy', `oci-archive:${at('a.oci.tar')}`, `dir:${at('copied')}`)
  const manifest = JSON.parse(readFileSync(at('copied/manifest.json'), 'utf8')) as {
    config: { digest: string }
  }
  assert.is(manifest.config.digest, a?.id)
  // As a docker-archive an image has no manifest: its id is what stays.
  const config = run(
    'skopeo',
    'inspect',
    '--config',
    '--raw',
    `docker-archive:${at('all.docker-archive')}:q.io/team/a:1`,
  )
  assert.is(`sha256:${createHash('sha256').update(config).digest('hex')}`, a?.id)
})

test('umoci unpacks a saved layout to the tree that the image holds', () => {
  run('umoci', 'unpack', '--image', `${at('all.oci-dir')}:q.io/team/b:2`, at('bundle'))
  const etc = at('bundle/rootfs/etc')
  assert.is(readFileSync(join(etc, 'file'), 'utf8'), 'content\n')
  assert.is(statSync(join(etc, 'file')).mode & 0o7777, 0o4755)
  assert.is(statSync(etc).uid, 7)
  assert.not.ok(existsSync(join(etc, 'link')))
})

for (const format of ['docker-archive', 'oci-archive']) {
  test(`podman loads a ${format}`, async () => {
    const [b] = (await listed(berth)).filter(({ names }) => names.includes('q.io/team/b:2'))
    await berth.ok(['save', '-q', '--format', format, '-o', at(`b.${format}`), 'q.io/team/b:2'])
    const podman = (...args: string[]): string =>
      run(
        'podman',
        '--root',
        at(`podman-${format}`),
        '--runroot',
        at('podman-run'),
        '--storage-driver',
        'vfs',
        ...args,
      )
    podman('load', '-q', '-i', at(`b.${format}`))
    const found = JSON.parse(podman('images', '--no-trunc', '--format', 'json')) as {
      Id: string
      Names: string[]
    }[]
    assert.equal(
      found.map(({ Names }) => Names),
      [['q.io/team/b:2']],
    )
    assert.is(`sha256:${found[0]?.Id}`, b?.id)
    podman('rmi', '-a', '-f')
  })
}

test('what cannot be saved is refused, and leaves nothing', async () => {
  await berth.refused(['save', '-o', at('none.tar'), 'nosuch'], /no image nosuch/)
  await berth.refused(['save', '--format', 'zip', 'a'], /"zip" is none of/)
  await berth.refused(['save', '--format', 'oci-dir', 'a'], /--output/)
  await berth.refused(['save', '-o', at('no/such.tar'), 'a'], /no directory for .*such\.tar/)
  await berth.refused(['save', '--platform', 'linux/arm64', 'a'], /--platform is not supported/)
  mkdirSync(at('full'))
  writeFileSync(at('full/file'), '')
  await berth.refused(['save', '--format', 'oci-dir', '-o', at('full'), 'a'], /not empty/)
  const { code, stdout } = await berth.terminal(['save', 'a'])
  assert.is.not(code, 0)
  assert.match(stdout, /nothing for a terminal/)
  assert.not.ok(existsSync(at('none.tar')))
  assert.equal(
    readdirSync(berth.directory).filter((name) => name.includes('.tmp-')),
    [],
  )
})

test('a blob that the disk has spoilt is told, and no half archive is left', async () => {
  await berth.ok(['save', '-q', '--format', 'oci-dir', '-o', at('spoilt'), 'q.io/team/b:2'])
  const index = JSON.parse(readFileSync(at('spoilt/index.json'), 'utf8'))
  const blob = (digest: string) => `blobs/${digest.replace(':', '/')}`
  const manifest = JSON.parse(readFileSync(at(`spoilt/${blob(index.manifests[0].digest)}`), 'utf8'))
  const path = join(berth.root, 'images', blob(manifest.layers[0].digest))
  const good = readFileSync(path)
  const bad = Buffer.from(good)
  bad[100] = (bad[100] ?? 0) ^ 1
  writeFileSync(path, bad)
  await berth.refused(
    ['save', '-q', '-o', at('bad.tar'), 'q.io/team/b:2'],
    /does not match its digest/,
  )
  assert.not.ok(existsSync(at('bad.tar')))
  writeFileSync(path, good)
})

test('a save that is called off leaves nothing, wherever it writes', async () => {
  const content = Buffer.alloc(64 * 2 ** 20)
  writeLayout(at('big-layout'), [
    { name: 'q.io/big:1', layers: [[{ name: 'big', content }]], compression: 'none' },
  ])
  await berth.ok(['load', '-q', '-i', at('big-layout')])
  const left = (): string[] =>
    readdirSync(berth.directory).filter((name) => /^called-off/.test(name))
  await berth.ok(['create', '--name', 'big', 'q.io/big:1', '/big'])
  for (const [signal, ...args] of [
    ['SIGINT', 'save', '-q', '-o', at('called-off'), 'q.io/big:1'],
    ['SIGTERM', 'save', '-q', '--format', 'oci-dir', '-o', at('called-off'), 'q.io/big:1'],
    ['SIGINT', 'export', '-o', at('called-off'), 'big'],
  ] as const) {
    const save = berth.spawn(args)
    const ended = new Promise((resolve) => save.once('exit', resolve))
    while (left().length === 0) await delay(1)
    // Stopped, so that it is not done before the signal comes.
    save.kill('SIGSTOP')
    assert.match(left().join(), /^called-off\.tmp-/)
    save.kill(signal)
    save.kill('SIGCONT')
    assert.is(await ended, 125)
    assert.equal(left(), [])
  }
  const save = berth.spawn(['save', '-q', 'q.io/big:1'])
  const ended = new Promise((resolve) => save.once('exit', resolve))
  // A reader that takes nothing more.
  await new Promise((resolve) => save.stdout.once('readable', resolve))
  save.kill('SIGTERM')
  assert.is(await ended, 125)
  await berth.ok(['rm', 'big'])
  await berth.ok(['rmi', 'q.io/big:1'])
})

test('a load and an import that are called off leave nothing, though their input says nothing more', async () => {
  const ingest = join(berth.root, 'images/ingest')
  for (const args of [
    ['load', '-q'],
    ['import', '-q', '-'],
  ]) {
    const child = berth.spawn(args)
    const ended = new Promise((resolve) => child.once('exit', resolve))
    child.stdin.write(Buffer.alloc(600_000))
    await eventually('it has read some', () =>
      readdirSync(ingest).some((name) => statSync(join(ingest, name)).size > 0),
    )
    child.kill('SIGTERM')
    assert.is(await ended, 125)
    assert.equal(readdirSync(ingest), [])
  }
})

test('history tells the steps with the size of their layers', async () => {
  const [newest, ...older] = JSON.parse(await berth.ok(['history', '--format', 'json', 'a'])) as {
    id?: string
    createdBy: string
    size: number
  }[]
  const [a] = (await listed(berth)).filter(({ names }) => names.includes('q.io/team/a:1'))
  assert.is(newest?.id, a?.id)
  assert.ok(older.every(({ id, size }) => id === undefined && size > 0))
  assert.match(
    await berth.ok(['history', 'a']),
    /IMAGE +CREATED +CREATED BY +SIZE +COMMENT\n[0-9a-f]{12} .*berth/,
  )
  assert.is((await berth.ok(['history', '-q', '--no-trunc', 'a'])).split('\n')[0], a?.id)
})

test('nothing is left behind', nothingIsLeft)

test.run()
