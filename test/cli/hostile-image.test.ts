/** Images and names that want to hang berth, lead it out, or write to the terminal of who looks at them. */
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { berthOfFile } from '../lib/berth.ts'
import { HELLO_CONFIG, helloEntries, type TarEntry, writeOciArchive } from '../lib/images.ts'
import { needs } from '../lib/needs.ts'

needs('root', 'overlay', 'cgroup2')

const { berth, nothingIsLeft } = berthOfFile()
const RUN = ['run', '--rm', '--net', 'none']
let made = 0

/** Loads an image whose further layer may put other things at the names of the built-in one. */
async function image(entries: TarEntry[], config: Record<string, unknown> = {}): Promise<string> {
  const name = `hostile:${++made}`
  const names = new Set(entries.map((entry) => entry.name))
  const base = helloEntries().filter((entry) => !names.has(entry.name))
  const archive = join(berth.directory, 'hostile.tar')
  writeOciArchive(archive, [
    { name, layers: [[...base, ...entries]], config: { ...HELLO_CONFIG, ...config } },
  ])
  await berth.ok(['load', '-i', archive])
  return name
}

const ACCOUNTS: [title: string, entry: TarEntry][] = [
  ['a fifo', { name: 'etc/passwd', type: 'fifo' }],
  ['an endless device', { name: 'etc/passwd', type: 'char', major: 1, minor: 5 }],
  ['a directory', { name: 'etc/passwd/', type: 'directory' }],
  ['a link to an endless device', { name: 'etc/passwd', type: 'symlink', to: '/dev/zero' }],
  ['a link to itself', { name: 'etc/passwd', type: 'symlink', to: 'passwd' }],
  ['a file of 20 MB', { name: 'etc/passwd', content: Buffer.alloc(20 * 1024 * 1024, 'x:') }],
  ['one line of 5 MB', { name: 'etc/passwd', content: Buffer.alloc(5 * 1024 * 1024, 'a') }],
]
for (const [title, entry] of ACCOUNTS) {
  test(`/etc/passwd as ${title}: a name is refused in time, a number works or is refused`, async () => {
    const name = await image([entry])
    const named = await berth.run([...RUN, '-u', 'user', name, 'id'], { timeoutMs: 20_000 })
    assert.is(named.code, 125)
    assert.match(named.stderr, /passwd|user/)
    const numeric = await berth.run([...RUN, '-u', '5:5', name, 'id'], { timeoutMs: 20_000 })
    assert.ok(numeric.code === 0 || /passwd/.test(numeric.stderr), numeric.stderr)
    assert.is(await berth.ok(['ps', '-aq']), '')
  })
}

test('/etc/passwd as a link out of the root is one inside it', async () => {
  const secret = join(berth.directory, 'passwd')
  writeFileSync(secret, 'evil:x:4242:4242:::\n')
  const name = await image([
    { name: 'etc/passwd', type: 'symlink', to: `../../../../../..${secret}` },
  ])
  await berth.refused([...RUN, '-u', 'evil', name, 'id'], /no user "evil"/)
})

test('/etc/passwd that a container has grown to 5 GB of nothing does not hang exec', async () => {
  await berth.ok(['run', '-d', '--net', 'none', '--name', 'grown', 'hello', 'sleep'])
  const [{ State }] = JSON.parse(await berth.ok(['inspect', 'grown']))
  const { truncateSync } = await import('node:fs')
  truncateSync(`/proc/${State.Pid}/root/etc/passwd`, 5 * 1024 ** 3)
  const { code, stderr } = await berth.run(['exec', '-u', 'user', 'grown', 'id'], {
    timeoutMs: 20_000,
  })
  assert.is(code, 125)
  assert.match(stderr, /passwd/)
  await berth.ok(['rm', '-f', 'grown'])
})

for (const user of ['4294967296', '-1', '4294967295', '0x0', '1000\n0', 'a:b:c']) {
  test(`USER ${JSON.stringify(user)} is refused`, async () => {
    await berth.refused([...RUN, await image([], { User: user }), 'id'], /user|range/)
  })
}

test('a user whose listed id is no id is refused', async () => {
  const name = await image([
    { name: 'etc/passwd', content: 'big:x:4294967296:0:::\nneg:x:-1:0:::\nword:x:root:0:::\n' },
  ])
  for (const user of ['big', 'neg', 'word'])
    await berth.refused([...RUN, '-u', user, name, 'id'], /id/)
})

for (const directory of [
  '/proc/self/fd/7',
  '/proc/self/fd/3',
  '/proc/self/fd/8/../../..',
  '/proc/1/cwd/../../..',
]) {
  test(`WORKDIR ${directory} does not lead out`, async () => {
    const name = await image([], { WorkingDir: directory })
    const { code, stdout } = await berth.run([...RUN, name, 'ls', '.'])
    if (code === 0) assert.not.match(stdout, /^(boot|lib64|sbin|usr)$/m)
    const other = await berth.run([...RUN, '-w', directory, 'hello', 'ls', '.'])
    if (other.code === 0) assert.not.match(other.stdout, /^(boot|lib64|sbin|usr)$/m)
  })
}

for (const volume of ['../../../berth-out', '/../../berth-out', '/link', '/', '', 'relative']) {
  test(`VOLUME ${JSON.stringify(volume)} stays inside or is refused`, async () => {
    const name = await image([{ name: 'link', type: 'symlink', to: '../../../../berth-out' }], {
      Volumes: { [volume]: {} },
    })
    const { code, stderr } = await berth.run([...RUN, name, 'true'])
    assert.ok(code === 0 || /volume|mount/i.test(stderr), stderr)
    assert.not(existsSync('/berth-out'))
    assert.is(JSON.parse(await berth.ok(['volume', 'ls', '--format', 'json'])).length, 0)
  })
}

test('a VOLUME at a link to the host’s files is not filled from them', async () => {
  const name = await image([{ name: 'data', type: 'symlink', to: '/../../../../etc' }], {
    Volumes: { '/data': {} },
  })
  const out = await berth.ok([...RUN, name, 'ls', '/data'])
  assert.not.match(out, /shadow|fstab/)
})

for (const place of ['proc', 'dev', 'sys']) {
  test(`/${place} as a link is refused`, async () => {
    const name = await image(
      [{ name: `${place}/`, type: 'symlink', to: '/tmp' } as TarEntry].map((e) => ({
        ...e,
        name: place,
      })),
    )
    const { code, stderr } = await berth.run([...RUN, name, 'true'])
    assert.is(code, 125, stderr)
    assert.match(stderr, new RegExp(place))
  })
}

for (const file of ['etc/hosts', 'etc/hostname', 'etc/resolv.conf']) {
  test(`/${file} as a link out does not touch the host`, async () => {
    const target = join(berth.directory, 'touched')
    const name = await image([{ name: file, type: 'symlink', to: `/../../../..${target}` }])
    await berth.run([...RUN, name, 'true'])
    assert.not(existsSync(target))
  })
}

const RAW = /(?![\n\t])\p{Cc}/u
const ESCAPE = '\u001b[2J\u001b]0;owned\u0007\r\n\u009b31mevil'
test('control characters of labels, arguments, environment and errors never reach a terminal raw', async () => {
  const name = await image([], {
    Labels: { [`k${ESCAPE}`]: ESCAPE },
    Env: ['PATH=/bin', `E=${ESCAPE}`],
    Cmd: ['/bin/true', ESCAPE],
  })
  await berth.ok(['create', '--net', 'none', '--name', 'esc', '--label', `x=${ESCAPE}`, name])
  for (const command of [
    ['ps', '-a', '--no-trunc'],
    ['ps', '-a', '--format', 'json'],
    ['inspect', 'esc'],
    ['image', 'inspect', name],
    ['images'],
    ['events', '--since', '1h', '--until', new Date().toISOString()],
  ]) {
    const { stdout, stderr } = await berth.run(command)
    assert.not.match(stdout, RAW, command.join(' '))
    assert.not.match(stderr, RAW, command.join(' '))
  }
  for (const command of [
    ['inspect', `no${ESCAPE}`],
    ['run', '--rm', '--net', 'none', 'hello', `/no${ESCAPE}`],
    ['run', '--rm', '--net', 'none', '-u', `u${ESCAPE}`, 'hello'],
    [`no${ESCAPE}`],
  ]) {
    const { code, stderr } = await berth.run(command)
    assert.is.not(code, 0)
    assert.not.match(stderr, RAW, JSON.stringify(stderr))
  }
  await berth.ok(['rm', 'esc'])
})

test('process names of a container reach the terminal of top harmless', async () => {
  await berth.ok(['run', '-d', '--net', 'none', '--name', 'top', 'hello', 'sleep', '1000'])
  await berth.ok(['exec', '-d', 'top', 'probe', 'sleep', `999${ESCAPE}`])
  const { stdout } = await berth.run(['top', 'top'])
  assert.not.match(stdout, RAW)
  await berth.ok(['rm', '-f', 'top'])
})

test('nothing is left behind', nothingIsLeft)

test.run()
