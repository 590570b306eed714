/** What a program is given by `berth run`, and what comes back of it. */
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { berthOfFile } from '../lib/berth.ts'
import { eventually } from '../lib/eventually.ts'
import { needs } from '../lib/needs.ts'

needs('root', 'overlay', 'cgroup2')

const { berth, nothingIsLeft } = berthOfFile()
const RUN = ['run', '--rm', '--net', 'none']
const hello = (options: string[], ...command: string[]) => [...RUN, ...options, 'hello', ...command]

test('the built-in image runs without any other word', async () => {
  const { code, stdout, stderr } = await berth.run(hello([]))
  assert.is(code, 0, stderr)
  assert.match(stdout, /pid +1\n/)
})

const EXITS: [title: string, code: number, options: string[], command: string[], says?: RegExp][] =
  [
    ['success is 0', 0, [], ['true']],
    ["the program's own code is passed on", 3, [], ['probe', 'exit', '3']],
    ['the largest code is passed on', 255, [], ['probe', 'exit', '255']],
    ["berth's own failure is 125", 125, ['--memory', 'much'], ['true'], /--memory/],
    ['an unknown option is 125', 125, ['--no-such-option'], ['true'], /no-such-option/],
    [
      'what cannot be executed is 126',
      126,
      [],
      ['/etc/passwd'],
      /\/etc\/passwd.*[Pp]ermission denied/,
    ],
    ['a directory as the program is 126', 126, [], ['/etc'], /\/etc/],
    ['a missing program is 127', 127, [], ['no-such-program'], /no-such-program/],
    ['a missing program by its path is 127', 127, [], ['/no/such/program'], /\/no\/such\/program/],
    ['a file where a directory is needed is 127', 127, [], ['/etc/passwd/x'], /\/etc\/passwd\/x/],
  ]
for (const [title, code, options, command, says] of EXITS) {
  test(`exit code: ${title}`, async () => {
    const result = await berth.run(hello(options, ...command))
    assert.is(result.code, code, result.stderr)
    if (says) assert.match(result.stderr, says)
    else assert.is(result.stderr, '')
  })
}

test('a failed start leaves no container of --rm, and one that tells why without', async () => {
  await berth.run(hello(['--name', 'gone'], 'no-such-program'))
  assert.is(await berth.ok(['ps', '-aq']), '')
  const kept = await berth.run([
    'run',
    '--net',
    'none',
    '--name',
    'kept',
    'hello',
    'no-such-program',
  ])
  assert.is(kept.code, 127)
  assert.match(await berth.ok(['ps', '-a']), /kept/)
  const [found] = JSON.parse(await berth.ok(['inspect', 'kept']))
  assert.is(found.State.ExitCode, 127)
  assert.match(found.State.Error, /no-such-program/)
  await berth.ok(['rm', 'kept'])
})

test('stdin is passed with -i, and its end too', async () => {
  assert.is(await berth.ok(hello(['-i'], 'cat'), { input: 'one\ntwo\n' }), 'one\ntwo')
})

test('without -i the program has an empty stdin', async () => {
  assert.is(await berth.ok(hello([], 'cat'), { input: 'unread' }), '')
})

test('a program that writes after the end of its stdin is heard to its end', async () => {
  const out = await berth.ok(
    hello(['-i'], 'cat', '-', '/etc/group').filter((a) => a !== '-'),
    { input: 'x' },
  )
  assert.match(out, /root:x:0:/)
})

test('a program that does not read its stdin ends all the same', async () => {
  const input = Buffer.alloc(8 * 1024 * 1024, 'z')
  const { code, stderr } = await berth.run(hello(['-i'], 'probe', 'exit', '4'), { input })
  assert.is(code, 4, stderr)
})

test('10 MB through stdin and stdout come out byte by byte as they went in', async () => {
  const input = Buffer.alloc(10 * 1024 * 1024 + 7)
  for (let i = 0; i < input.length; i++) input[i] = (i * 31 + (i >> 8)) & 0xff
  const out = await digestOf(hello(['-i', '--log-driver', 'none'], 'cat'), input)
  assert.equal(out, { code: 0, bytes: input.length, sha: sha(input) })
})

test('100 MB of a file come out of stdout whole', async () => {
  const file = join(berth.directory, 'big')
  const block = Buffer.alloc(1024 * 1024)
  const hash = createHash('sha256')
  writeFileSync(file, '')
  for (let n = 0; n < 100; n++) {
    for (let i = 0; i < block.length; i += 64) block.writeUInt32LE(n * 7919 + i, i)
    hash.update(block)
    writeFileSync(file, block, { flag: 'a' })
  }
  const out = await digestOf(hello(['-v', `${file}:/big:ro`], 'cat', '/big'))
  assert.equal(out, { code: 0, bytes: 100 * 1024 * 1024, sha: hash.digest('hex') })
})

test('stdout and stderr stay apart, each in its order', async () => {
  const { code, stdout, stderr } = await berth.run(hello([], 'probe', 'lines', '2000', '0', 'both'))
  const wanted = Array.from({ length: 2000 }, (_, i) => `line ${i + 1}\n`).join('')
  assert.is(code, 0)
  assert.is(stdout, wanted)
  assert.is(stderr, wanted)
})

test('a reader that goes away ends berth and the container', async () => {
  const child = berth.spawn([
    'run',
    '--rm',
    '--net',
    'none',
    'hello',
    'probe',
    'lines',
    '100000000',
    '0',
  ])
  child.stdin.end()
  const code = new Promise<number | null>((resolve) => child.on('exit', resolve))
  await new Promise((resolve) => child.stdout.once('data', resolve))
  child.stdout.destroy()
  assert.is(await code, 141)
  assert.is(await berth.ok(['ps', '-aq']), '')
})

test("the environment is the image's, then the files', then the options', and nothing of the caller's", async () => {
  const file = join(berth.directory, 'env')
  writeFileSync(file, '# comment\nA=file\nB=file\nFROM_CALLER\nQUOTED="as it is"\n\n')
  const out = await berth.ok(
    hello(
      [
        '--env-file',
        file,
        '-e',
        'B=option',
        '-e',
        'EMPTY=',
        '-e',
        'ALSO_CALLER',
        '-e',
        'NOT_SET',
        '--hostname',
        'box',
      ],
      'env',
    ),
    { env: { FROM_CALLER: '1', ALSO_CALLER: 'two words', SECRET: 'no' } },
  )
  assert.equal(out.split('\n').sort(), [
    'A=file',
    'ALSO_CALLER=two words',
    'B=option',
    'EMPTY=',
    'FROM_CALLER=1',
    'HOME=/root',
    'HOSTNAME=box',
    'PATH=/bin',
    'QUOTED="as it is"',
  ])
})

test('-w sets the directory and makes a missing one', async () => {
  assert.is(await berth.ok(hello(['-w', '/home/user'], 'pwd')), '/home/user')
  assert.is(await berth.ok(hello(['-w', '/new/one'], 'pwd')), '/new/one')
  await berth.refused(hello(['-w', 'relative'], 'pwd'), /"?relative"?.*absolute/)
})

const USERS: [given: string[], id: RegExp][] = [
  [[], /^uid=0 gid=0 groups=\S* umask=0022$/],
  [['-u', 'user'], /^uid=1000 gid=1000 groups=29 umask=0022$/],
  [['-u', 'user:audio'], /^uid=1000 gid=29 groups= umask=0022$/],
  [['-u', '1000'], /^uid=1000 gid=1000 groups=29 umask=0022$/],
  [['-u', '4242:4343'], /^uid=4242 gid=4343 groups= umask=0022$/],
  [['-u', '4242'], /^uid=4242 gid=0 groups= umask=0022$/],
  [
    ['-u', 'user', '--group-add', 'nogroup', '--group-add', '77'],
    /^uid=1000 gid=1000 groups=29,77,65534 umask=0022$/,
  ],
  [['--umask', '077'], /umask=0077$/],
]
for (const [given, id] of USERS) {
  test(`user: ${given.join(' ') || 'none asked'}`, async () => {
    assert.match(await berth.ok(hello(given, 'id')), id)
  })
}

for (const [user, says] of [
  ['nosuch', /no user "nosuch"/],
  ['user:nosuch', /no group "nosuch"/],
  ['4294967295', /4294967295.*range/],
  ['4294967296', /4294967296.*range/],
  ['-1', /-1/],
  ['a:b:c', /colon/],
] as const) {
  test(`user: ${user} is refused`, async () => {
    await berth.refused(hello([`--user=${user}`], 'id'), says)
  })
}

test('HOME is the home of the user', async () => {
  assert.match(await berth.ok(hello(['-u', 'user'], 'env')), /^HOME=\/home\/user$/m)
  assert.match(await berth.ok(hello(['-u', '4242'], 'env')), /^HOME=\/$/m)
  assert.match(await berth.ok(hello(['-u', 'user', '-e', 'HOME=/x'], 'env')), /^HOME=\/x$/m)
})

test('--hostname is the host name, in /etc/hosts and /etc/hostname too', async () => {
  const out = await berth.ok(hello(['-h', 'box.test'], 'cat', '/etc/hostname', '/etc/hosts'))
  assert.match(out, /^box\.test\n/)
  assert.match(out, /box\.test/m)
  assert.is(await berth.ok(hello(['-h', 'box.test'], 'probe', 'hostname')), 'box.test')
  assert.match(await berth.ok(hello([], 'probe', 'hostname')), /^[0-9a-f]{12}$/)
})

test("--entrypoint takes the place of the image's entrypoint and command", async () => {
  assert.is(await berth.ok(hello(['--entrypoint', '/bin/echo'], 'a', 'b')), 'a b')
  assert.is(await berth.ok(hello(['--entrypoint', '["/bin/echo","x"]'], 'y')), 'x y')
  await berth.refused(hello(['--entrypoint', '']), /command/)
})

test('labels and annotations are kept', async () => {
  const file = join(berth.directory, 'labels')
  writeFileSync(file, 'from=file\n')
  await berth.ok([
    'create',
    '--net',
    'none',
    '--name',
    'l',
    '--label',
    'a=b=c',
    '-l',
    'bare',
    '--label-file',
    file,
    '--annotation',
    'x.y=z',
    'hello',
  ])
  const [found] = JSON.parse(await berth.ok(['inspect', 'l']))
  assert.equal(found.Config.Labels, { from: 'file', a: 'b=c', bare: '' })
  assert.is(await berth.ok(['ps', '-aq', '--no-trunc', '-f', 'label=a=b=c']), found.Id)
  assert.is(await berth.ok(['ps', '-aq', '-f', 'label=a=other']), '')
  await berth.ok(['rm', 'l'])
})

test('--cidfile gets the id, and a file that exists is refused', async () => {
  const file = join(berth.directory, 'cid')
  await berth.ok(hello(['--cidfile', file], 'true'))
  assert.match(readFileSync(file, 'utf8'), /^[0-9a-f]{64}$/)
  await berth.refused(hello(['--cidfile', file], 'true'), /cid.*exists/)
  assert.is(await berth.ok(['ps', '-aq']), '')
})

test('a cidfile that cannot be written leaves no container', async () => {
  await berth.refused(hello(['--cidfile', '/no/such/dir/cid'], 'true'), /\/no\/such\/dir\/cid/)
  assert.is(await berth.ok(['ps', '-aq']), '')
})

test('a name that is in use, or none, is refused', async () => {
  await berth.ok(['create', '--net', 'none', '--name', 'taken', 'hello'])
  await berth.refused(
    hello(['--name', 'taken'], 'true'),
    /"taken" is in use by container [0-9a-f]{12}/,
  )
  for (const name of ['', '../x', '-x', 'a/b', 'a b', 'x'.repeat(129)]) {
    await berth.refused(hello([`--name=${name}`], 'true'), /name/)
  }
  await berth.ok(['rm', 'taken'])
  await berth.ok(hello(['--name', 'taken'], 'true'))
})

test('options after the image belong to the program', async () => {
  assert.is(
    await berth.ok(hello([], 'echo', '--rm', '-e', 'x', '--', '--help')),
    '--rm -e x -- --help',
  )
})

test('arguments reach the program byte by byte', async () => {
  const odd = ['', ' ', 'a\nb', "'", '"', '$HOME', '\\', '*', 'ü€😀', '\u001b[31m']
  assert.is(await berth.ok(hello([], 'echo', ...odd)), odd.join(' '))
})

test('an image that is not there is refused with what to do', async () => {
  await berth.refused(
    ['run', '--rm', '--net', 'none', '--pull', 'never', 'nosuch', 'true'],
    /nosuch/,
  )
})

test('no fd of ours is open in the program', async () => {
  const fds = await berth.ok(hello([], 'probe', 'fds'))
  assert.equal(
    fds.split('\n').map((line) => line.split(' ')[0]),
    ['0', '1', '2'],
  )
})

test('--log-driver none keeps no log', async () => {
  await berth.ok([
    'run',
    '--net',
    'none',
    '--name',
    'quiet',
    '--log-driver',
    'none',
    'hello',
    'echo',
    'unheard',
  ])
  await berth.refused(['logs', 'quiet'], /log/)
  await berth.ok(['rm', 'quiet'])
  await berth.refused(hello(['--log-driver', 'syslog'], 'true'), /syslog.*not supported/)
})

test('without --rm the container stays, with its exit code and its log', async () => {
  const { code } = await berth.run([
    'run',
    '--net',
    'none',
    '--name',
    'stays',
    'hello',
    'probe',
    'exit',
    '7',
  ])
  assert.is(code, 7)
  assert.match(await berth.ok(['ps', '-a']), /stays.*Exited \(7\)|Exited \(7\).*stays/)
  await berth.ok(['rm', 'stays'])
})

test('--rm leaves nothing of the container: no file, no state', async () => {
  await berth.ok(hello([], 'true'))
  await eventually('no container directory', () => !existsAny(['containers', 'names', 'locks']))
})

function existsAny(names: string[]): boolean {
  return names.some((name) => {
    const path = join(berth.root, name)
    return existsSync(path) && readdirNames(path).length > 0
  })
}

function readdirNames(path: string): string[] {
  return readdirSync(path)
}

async function digestOf(args: string[], input?: Buffer) {
  const child = berth.spawn(args)
  child.stdin.on('error', () => {})
  child.stdin.end(input)
  const hash = createHash('sha256')
  let bytes = 0
  child.stdout.on('data', (part: Buffer) => {
    bytes += part.length
    hash.update(part)
  })
  const code = await new Promise<number | null>((resolve) => child.on('close', resolve))
  return { code, bytes, sha: hash.digest('hex') }
}

const sha = (data: Buffer): string => createHash('sha256').update(data).digest('hex')

test('nothing is left behind', nothingIsLeft)

test.run()
