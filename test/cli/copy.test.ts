/** `berth cp` both ways: docker's rules for the target, and a container whose links lead out. */
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { berthOfFile } from '../lib/berth.ts'
import { probeImage, type TarEntry, tar, writeOciArchive } from '../lib/images.ts'
import { needs } from '../lib/needs.ts'

needs('root', 'overlay', 'cgroup2')

const { berth, nothingIsLeft } = berthOfFile()
const here = (name: string): string => join(berth.directory, name)
mkdirSync(here('tree/sub'), { recursive: true })
writeFileSync(here('tree/f'), 'f\n', { mode: 0o640 })
writeFileSync(here('tree/sub/g'), 'g\n')
symlinkSync('/etc/passwd', here('tree/link'))
writeFileSync(here('file'), 'content')

for (const state of ['running', 'stopped'] as const) {
  const name = `c-${state}`
  const look = async (...command: string[]) => {
    if (state === 'running') return berth.ok(['exec', name, ...command])
    // What a stopped one holds is seen by copying it out.
    throw new Error('only a running container can be asked')
  }
  const content = async (path: string): Promise<string> => {
    const out = here(`out-${Math.random().toString(36).slice(2)}`)
    await berth.ok(['cp', `${name}:${path}`, out])
    return readFileSync(out, 'utf8')
  }

  test(`${state}: there is a container`, async () => {
    if (state === 'running')
      await berth.ok(['run', '-d', '--net', 'none', '--name', name, 'hello', 'sleep'])
    else await berth.ok(['create', '--net', 'none', '--name', name, 'hello', 'sleep'])
  })

  test(`${state}: a file goes in under a new name, into a directory, over a file`, async () => {
    await berth.ok(['cp', here('file'), `${name}:/new`])
    assert.is(await content('/new'), 'content')
    await berth.ok(['cp', here('file'), `${name}:/home`])
    assert.is(await content('/home/file'), 'content')
    await berth.ok(['cp', here('file'), `${name}:/home/`])
    await berth.ok(['cp', here('tree/f'), `${name}:/home/file`])
    assert.is(await content('/home/file'), 'f\n')
    if (state === 'running')
      assert.match(await look('probe', 'stat', '/home/file'), /file 0640 0:0/)
  })

  test(`${state}: what cannot be meant is refused`, async () => {
    await berth.refused(['cp', here('file'), `${name}:/no/such/`], /\/no\/such/)
    await berth.refused(['cp', here('tree'), `${name}:/etc/passwd`], /passwd/)
    await berth.refused(['cp', here('nosuch'), `${name}:/home`], /nosuch/)
    await berth.refused(['cp', `${name}:/nosuch`, here('x')], /nosuch/)
    await berth.refused(['cp', `${name}:/etc/passwd`, here('no/such/')], /no\/such/)
    await berth.refused(['cp', here('file'), here('other')], /CONTAINER:PATH/)
    await berth.refused(['cp', here('file'), 'nosuch:/x'], /nosuch/)
  })

  test(`${state}: a directory goes in whole; with /. only what is in it`, async () => {
    await berth.ok(['cp', here('tree'), `${name}:/home`])
    assert.is(await content('/home/tree/sub/g'), 'g\n')
    await berth.ok(['cp', `${here('tree')}/.`, `${name}:/tmp`])
    assert.is(await content('/tmp/sub/g'), 'g\n')
    await berth.ok(['cp', here('tree'), `${name}:/made`])
    assert.is(await content('/made/sub/g'), 'g\n')
    const out = here(`link-${state}`)
    await berth.ok(['cp', `${name}:/made/link`, out])
    assert.is(readlinkSync(out), '/etc/passwd')
  })

  test(`${state}: a directory comes out whole`, async () => {
    const out = here(`etc-${state}`)
    await berth.ok(['cp', `${name}:/made`, out])
    assert.is(readFileSync(join(out, 'sub/g'), 'utf8'), 'g\n')
    mkdirSync(here(`into-${state}`))
    await berth.ok(['cp', `${name}:/made`, here(`into-${state}`)])
    assert.equal(readdirSync(here(`into-${state}/made`)).sort(), ['f', 'link', 'sub'])
  })

  test(`${state}: - is a tar of stdin and stdout`, async () => {
    const entries: TarEntry[] = [{ name: 'from-tar', content: 'tarred' }]
    await berth.ok(['cp', '-', `${name}:/tmp`], { input: tar(entries) })
    assert.is(await content('/tmp/from-tar'), 'tarred')
    const { code, stdout } = await berth.run(['cp', `${name}:/tmp/from-tar`, '-'])
    assert.is(code, 0)
    assert.match(stdout, /^from-tar\0/)
    assert.match(stdout, /tarred/)
    await berth.refused(['cp', '-', `${name}:/etc/passwd`], /passwd/)
  })

  test(`${state}: a tar that climbs stays inside`, async () => {
    const entries: TarEntry[] = [{ name: '../../../../../../tmp/berth-climbed', content: 'x' }]
    await berth.run(['cp', '-', `${name}:/tmp`], { input: tar(entries) })
    assert.not(existsSync('/tmp/berth-climbed'))
  })
}

test('a container’s links never lead a copy to the host', async () => {
  const archive = here('links.tar')
  writeOciArchive(archive, [
    probeImage('links:1', [
      { name: 'abs', type: 'symlink', to: here('secret') },
      { name: 'up', type: 'symlink', to: `../../../../../../../../..${here('target')}` },
      { name: 'loop', type: 'symlink', to: 'loop' },
      { name: 'passwd', type: 'symlink', to: '/etc/shadow' },
    ]),
  ])
  await berth.ok(['load', '-i', archive])
  mkdirSync(here('target'))
  writeFileSync(here('secret'), 'host secret')
  for (const state of ['create', 'run']) {
    await berth.ok([
      state,
      ...(state === 'run' ? ['-d'] : []),
      '--net',
      'none',
      '--name',
      'hostile',
      'links:1',
      'sleep',
    ])
    await berth.run(['cp', here('file'), 'hostile:/up'])
    await berth.run(['cp', here('file'), 'hostile:/up/'])
    await berth.run(['cp', here('file'), 'hostile:/abs'])
    await berth.run(['cp', here('file'), 'hostile:/loop/x'])
    await berth.run(['cp', '-', 'hostile:/up'], { input: tar([{ name: 'x', content: 'x' }]) })
    assert.equal(readdirSync(here('target')), [])
    assert.is(readFileSync(here('secret'), 'utf8'), 'host secret')
    const out = here(`stolen-${state}`)
    await berth.run(['cp', 'hostile:/abs', out])
    if (existsSync(out))
      assert.ok(lstatSync(out).isSymbolicLink() === false || readlinkSync(out) === here('secret'))
    await berth.run(['cp', '-L', 'hostile:/passwd', here(`shadow-${state}`)])
    assert.not(existsSync(here(`shadow-${state}`)))
    await berth.ok(['rm', '-f', 'hostile'])
  }
  await berth.ok(['rmi', 'links:1'])
})

test('links in our own target directory are ours to follow, those of the archive are not', async () => {
  const archive = here('through.tar')
  // An archive whose second entry goes through the link that the first has made.
  writeOciArchive(archive, [
    probeImage('through:1', [
      { name: 'd/', type: 'directory' },
      { name: 'd/out', type: 'symlink', to: berth.directory },
    ]),
  ])
  await berth.ok(['load', '-i', archive])
  await berth.ok(['create', '--net', 'none', '--name', 't', 'through:1'])
  mkdirSync(here('o'))
  await berth.ok(['cp', 't:/d', here('o')])
  assert.is(readlinkSync(here('o/d/out')), berth.directory)
  await berth.ok(['rm', 't'])
  await berth.ok(['rmi', 'through:1'])
})

test('a pipe or an endless file of a container does not hang a copy', async () => {
  await berth.ok(['run', '-d', '--net', 'none', '--name', 'pipe', 'hello', 'sleep'])
  await berth.ok(['exec', 'pipe', 'probe', 'mknod', '/pipe', 'p', '0', '0'])
  const { code } = await berth.run(['cp', 'pipe:/pipe', here('pipe')], { timeoutMs: 10_000 })
  assert.ok(code === 0 || code === 125, String(code))
  await berth.run(['cp', here('file'), 'pipe:/pipe'], { timeoutMs: 10_000 })
  await berth.ok(['rm', '-f', 'pipe'])
})

test('a mount of the container is where a copy goes to', async () => {
  mkdirSync(here('volume'))
  await berth.ok([
    'run',
    '-d',
    '--net',
    'none',
    '--name',
    'm',
    '-v',
    `${here('volume')}:/m`,
    '-v',
    `${here('tree')}:/ro:ro`,
    'hello',
    'sleep',
  ])
  await berth.ok(['cp', here('file'), 'm:/m/'])
  assert.is(readFileSync(here('volume/file'), 'utf8'), 'content')
  await berth.refused(['cp', here('file'), 'm:/ro/'], /read-only|Read-only|EROFS/)
  await berth.ok(['rm', '-f', 'm'])
})

test('nothing is left behind', nothingIsLeft)

test.run()
