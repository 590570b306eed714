/** `berth commit` and `berth export`: the image and the archive hold what the container sees, to umoci and GNU tar as to berth. */
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { berthOfFile, finish } from '../lib/berth.ts'
import { writeBusybox } from '../lib/busybox.ts'
import { eventually } from '../lib/eventually.ts'
import { documentsOf, writeLayoutOf } from '../lib/layout-of.ts'
import { needing, needs } from '../lib/needs.ts'
import { treeLines } from '../lib/tree.ts'

needs('root', 'overlay', 'cgroup2', 'file:/bin/busybox')

const { berth, nothingIsLeft } = berthOfFile()
const here = (name: string): string => join(berth.directory, name)

test('there is an image with a shell', async () => {
  writeBusybox(here('busybox.tar'), 'busybox')
  await berth.ok(['load', '-i', here('busybox.tar')])
})

const blobOf = (digest = ''): string => join(berth.root, 'images/blobs', digest.replace(':', '/'))

/** What berth mounts on, and directories that it made for that. */
const PLACES = ['/etc/hosts', '/etc/hostname', '/etc/resolv.conf', '/made']

const CHANGES = `
rm -r /usr; mkdir /usr; echo new >/usr/new
mkdir -p /d/e; echo 1 >/d/f; ln /d/f /d/e/g; ln -s /etc/passwd /d/l; mkfifo /d/p
rm /etc/group; chown 5:6 /d/f; chmod 4711 /d/f; chmod 1777 /d
truncate -s 50M /d/sparse; echo end >>/d/sparse
rm /bin/vi; mkdir /bin/vi
touch "$(printf '/d/\\377\\376')" /d/ü
rm /etc/passwd; nc -lU /etc/passwd & sleep 0.3; kill %1
mkdir -p /var/x; rmdir /var/x
`

async function changed(name: string, ...options: string[]): Promise<string> {
  const command = ['run', '--net', 'none', '--name', name, '-v', `${here('v')}:/made/a/b`]
  await berth.ok([...command, ...options, 'busybox', 'sh', '-c', CHANGES])
  const [id = ''] = readdirSync(join(berth.root, 'containers')).filter((each) =>
    readFileSync(join(berth.root, 'containers', each, 'record.json'), 'utf8').includes(
      `"name":"${name}"`,
    ),
  )
  return join(berth.root, 'containers', id, 'upper')
}

/** The tree that umoci, which knows nothing of us, makes of the image. */
function umociTree(id: string, name: string): string {
  writeLayoutOf(berth.root, id, here(`${name}.layout`), 'x')
  execFileSync('umoci', ['unpack', '--image', `${here(`${name}.layout`)}:x`, here(name)])
  return join(here(name), 'rootfs')
}

async function exportedTree(container: string, name: string): Promise<string> {
  await berth.ok(['export', container, '-o', here(`${name}.tar`)])
  mkdirSync(here(name))
  const flags = ['--numeric-owner', '--xattrs', '--xattrs-include=*', '-p', '-C', here(name)]
  execFileSync('tar', [...flags, '-xf', here(`${name}.tar`)])
  return here(name)
}

for (const [title, ...options] of [
  ['plain'],
  ['userns', '--userns', '200000:300000:65536'],
] as const) {
  const suite = needing(
    test,
    'program:umoci',
    'program:setcap',
    'program:setfattr',
    ...(title === 'userns' ? (['userns'] as const) : []),
  )
  suite(`${title}: image and archive are the tree that the container saw`, async () => {
    const upper = await changed(title, ...options)
    // What the shell has no tools for.
    execFileSync('setfattr', ['-n', 'user.note', '-v', 'hello', join(upper, 'd/f')])
    if (title === 'plain') execFileSync('setcap', ['cap_net_raw+ep', join(upper, 'd/ü')])
    if (title === 'plain') execFileSync('mknod', [join(upper, 'd/dev'), 'b', '7', '9'])
    const marks = execFileSync('getfattr', ['-R', '-d', '-m', 'trusted', upper], {
      encoding: 'utf8',
    })
    assert.match(marks, /trusted\.overlay\.opaque="y"/)

    const id = await berth.ok(['commit', '-q', title, `${title}:2`])
    const image = treeLines(umociTree(id, `u-${title}`))
    const exported = treeLines(await exportedTree(title, `e-${title}`), PLACES)
    assert.equal(image, exported)
    const lines = image.join('\n')
    assert.match(lines, / -> \/etc\/passwd/)
    assert.match(lines, / = \/d\//)
    if (title === 'plain') assert.ok(image.some((line) => line.includes('security.capability=')))
    for (const gone of ['/etc/group ', '/etc/passwd ', '/usr/bin ', 'overlay', '/made'])
      assert.not.ok(lines.includes(gone), gone)
    assert.match(lines, /\/d\/f 104711 5:6 /)
    // The hole is one in the layer, too.
    const { manifest } = documentsOf(berth.root, id)
    const blob = blobOf(manifest.layers.at(-1)?.digest)
    assert.ok(execFileSync('gunzip', ['-c'], { input: readFileSync(blob) }).length < 100_000)
  })
}

test('berth runs what it has committed, and diff agrees with the layer', async () => {
  assert.is(await berth.ok(['run', '--rm', '--net', 'none', 'plain:2', 'cat', '/usr/new']), 'new')
  const changes = (await berth.ok(['diff', 'plain'])).split('\n')
  assert.ok(changes.includes('D /etc/group'))
  assert.not.ok(changes.some((line) => /made|hosts|resolv/.test(line)))
})

test('a container that changed nothing gives a layer with nothing in it, and the same one each time', async () => {
  await berth.ok(['run', '--net', 'none', '--name', 'idle', '-v', `${here('v')}:/m/n`, 'busybox'])
  const last = async (name: string) => {
    const id = await berth.ok(['commit', '-q', 'idle', name])
    return documentsOf(berth.root, id).manifest.layers.at(-1)
  }
  const layer = await last('idle:1')
  assert.equal(await last('idle:2'), layer)
  assert.is(execFileSync('tar', ['-tzf', blobOf(layer?.digest)], { encoding: 'utf8' }), '')
})

test('the configuration is that of the run, then of --change; history and author are told', async () => {
  await berth.ok([
    ...['create', '--net', 'none', '--name', 'conf', '-e', 'A=1', '-e', 'PATH=/bin:/usr/bin'],
    ...['-w', '/tmp', '-u', 'user', '-l', 'k=v', 'busybox', 'sleep', '1'],
  ])
  const change = ['-c', 'ENV A=2', '-c', 'EXPOSE 80', '-c', 'LABEL b=c']
  const json = await berth.ok([
    ...['commit', '-q', '-a', 'me', '-m', 'why', ...change, '--format', 'json', 'conf', 'conf:1'],
  ])
  const made = JSON.parse(json) as { id: string; names: string[] }
  assert.equal(made.names, ['docker.io/library/conf:1'])
  const { config, manifest } = documentsOf(berth.root, made.id)
  assert.equal(config.config, {
    Cmd: ['sleep', '1'],
    Env: ['PATH=/bin:/usr/bin', 'A=2'],
    User: 'user',
    WorkingDir: '/tmp',
    Labels: { k: 'v', b: 'c' },
    ExposedPorts: { '80/tcp': {} },
  })
  assert.is(config.author, 'me')
  assert.is(config.rootfs.diff_ids.length, manifest.layers.length)
  const step = config.history?.at(-1)
  assert.equal([step?.author, step?.created_by, step?.comment], ['me', 'sleep 1', 'why'])
})

test('a running container stands still meanwhile, and runs on however the commit ends', async () => {
  // So much that the commit takes a while.
  const fill = 'head -c 20000000 /dev/urandom >/big; echo ready; while :; do sleep 0.05; done'
  await berth.ok(['run', '-d', '--net', 'none', '--name', 'busy', 'busybox', 'sh', '-c', fill])
  await eventually('it has written', async () => (await berth.ok(['logs', 'busy'])) === 'ready')
  const state = async () =>
    (JSON.parse(await berth.ok(['inspect', 'busy'])) as { State: { Status: string } }[])[0]?.State
      .Status
  const [id = ''] = (await berth.ok(['ps', '-q', '--no-trunc'])).split('\n')
  const mark = readFileSync(join(berth.root, 'containers', id, 'run.json'), 'utf8')
  const { cgroup } = JSON.parse(mark) as { cgroup: string }
  const isFrozen = () => readFileSync(join(cgroup, 'cgroup.freeze'), 'utf8').trim() === '1'
  const commit = berth.spawn(['commit', 'busy', 'busy:1'])
  const ended = new Promise((resolve) => commit.on('close', resolve))
  await eventually('it is frozen', async () => (await state()) === 'paused')
  commit.kill('SIGTERM')
  assert.is.not(await ended, 0)
  assert.is(await state(), 'running')
  // Killed, it cannot let it run on: the next command does, whatever that is.
  for (const next of [['ps'], ['unpause', 'busy'], ['system', 'check', '--repair', '-q']]) {
    const killed = berth.spawn(['commit', 'busy', 'busy:1'])
    const gone = new Promise((resolve) => killed.on('close', resolve))
    await eventually('it is frozen', async () => (await state()) === 'paused')
    killed.kill('SIGKILL')
    await gone
    assert.is(isFrozen(), true)
    await berth.ok(next)
    assert.is(isFrozen(), false, next.join(' '))
  }
  await berth.ok(['commit', '-q', '--no-pause', 'busy', 'busy:2'])
  await berth.ok(['pause', 'busy'])
  await berth.ok(['commit', '-q', 'busy', 'busy:3'])
  // Its user's pause is nobody else's to end.
  assert.is(await state(), 'paused')
  await berth.ok(['system', 'check', '--repair', '-q'])
  assert.is(await state(), 'paused')
  await berth.ok(['rm', '-f', 'busy'])
})

test('what cannot be in a layer is refused by name', async () => {
  const run = (name: string, command: string) =>
    berth.ok(['run', '--net', 'none', '--name', name, 'busybox', 'sh', '-c', command])
  await run('wh', 'touch /etc/.wh.passwd')
  await berth.refused(['commit', 'wh', 'x'], /etc\/\.wh\.passwd/)
  await run('redirect', 'mkdir /moved')
  const upper = readdirSync(join(berth.root, 'containers'))
    .map((id) => join(berth.root, 'containers', id, 'upper/moved'))
    .find((path) => existsSync(path))
  execFileSync('setfattr', ['-n', 'trusted.overlay.redirect', '-v', '/usr', upper ?? ''])
  await berth.refused(['commit', 'redirect', 'x'], /moved/)
  await berth.refused(['commit', 'nosuch', 'x'], /nosuch/)
  await berth.refused(['commit', 'idle', 'x@sha256:12'], /x@sha256/)
  assert.equal(
    readdirSync(join(berth.root, 'images/ingest')).filter((name) => name.startsWith('scratch')),
    [],
  )
})

test('an export goes to a file whole or not at all, and never to a terminal', async () => {
  await berth.refused(['export', 'idle', '-o', here('no/such')], /no\/such/)
  await berth.refused(['export', 'nosuch', '-o', here('none.tar')], /nosuch/)
  assert.not.ok(existsSync(here('none.tar')))
  const { stdout } = await berth.terminal(['export', 'idle'])
  assert.match(stdout, /nothing for a terminal/)
  const id = await berth.ok(['import', '-q', here('e-plain.tar'), 'again'])
  assert.match(id, /^sha256:/)
  assert.is(await berth.ok(['run', '--rm', '--net', 'none', 'again', 'cat', '/usr/new']), 'new')
})

test('an export of a running container does not follow what it puts in the way', async () => {
  writeFileSync(here('secret'), 'the secret of the host\n')
  mkdirSync(here('secrets'))
  writeFileSync(here('secrets/f'), 'the secret of the host\n')
  const swap = `cd /tmp; while :; do
    rm -rf a; ln -s ${here('secret')} a; rm -f b; ln -s ${here('secrets')} b; rm a b; mkdir a b; echo x >b/f; rm -r a b; echo y >a
  done`
  await berth.ok(['run', '-d', '--net', 'none', '--name', 'swap', 'busybox', 'sh', '-c', swap])
  for (let i = 0; i < 5; i++) {
    await berth.ok(['export', 'swap', '-o', here('swap.tar')])
    const bytes = readFileSync(here('swap.tar'))
    assert.is(bytes.indexOf('the secret of the host'), -1)
    execFileSync('tar', ['-tf', here('swap.tar')])
  }
  await berth.ok(['rm', '-f', 'swap'])
})

test('an export of a container that is removed meanwhile is no success', async () => {
  // More than pipes hold.
  const fill = 'dd if=/dev/zero of=/fill bs=1M count=8; echo end >/zlast'
  await berth.ok(['run', '--net', 'none', '--name', 'gone', 'busybox', 'sh', '-c', fill])
  const child = berth.spawn(['export', 'gone'])
  await once(child.stdout, 'readable')
  await berth.ok(['rm', 'gone'])
  const { code, stderr } = await finish(child, 'berth export')
  assert.is.not(code, 0)
  assert.match(stderr, /container gone was removed while it was exported/)
})

test('nothing is left behind', nothingIsLeft)

test.run()
