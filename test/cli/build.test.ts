/** `berth build`: real Dockerfiles on a base with a shell, their cache, their reproducibility, and contexts and stages that nobody vouches for. */
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { dirname, join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { buildImage } from '../../src/build/build.ts'
import { berthOfFile, type CommandOptions } from '../lib/berth.ts'
import { writeBusybox } from '../lib/busybox.ts'
import { engineOf } from '../lib/engine.ts'
import { eventually } from '../lib/eventually.ts'
import { documentsOf } from '../lib/layout-of.ts'
import { needs } from '../lib/needs.ts'

needs('root', 'overlay', 'cgroup2', 'file:/bin/busybox')

const { berth, nothingIsLeft } = berthOfFile()
const here = (name: string): string => join(berth.directory, name)

/** A place that no host has. */
const INTO = `/srv/berth-test-${process.pid}/into`

/** A context of these files; a text that begins with `-> ` is a link. */
function context(name: string, files: Record<string, string>): string {
  for (const [path, content] of Object.entries(files)) {
    const full = join(here(name), path)
    mkdirSync(dirname(full), { recursive: true })
    if (content.startsWith('-> ')) symlinkSync(content.slice(3), full)
    else writeFileSync(full, content)
  }
  return here(name)
}

/** Every layer of a build waits for the whole disk (syncfs), and with it for all that others write. */
const TIMEOUT_MS = 150_000

const build = (args: string[], options: CommandOptions = {}) =>
  berth.run(['build', '--network', 'none', ...args], { timeoutMs: TIMEOUT_MS, ...options })

/** Builds a Dockerfile that must succeed; gives the image's id. */
async function built(dockerfile: string, directory: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await build(['-f', '-', ...args, directory], {
    input: dockerfile,
  })
  assert.is(code, 0, stderr)
  return stdout.trim()
}

/** Builds one that must fail. */
async function fails(dockerfile: string, message: RegExp, directory = here('empty')) {
  const { code, stderr } = await build(['-f', '-', directory], { input: dockerfile })
  assert.is.not(code, 0, `it was built:\n${dockerfile}`)
  assert.match(stderr, message)
}

const run = (image: string, ...command: string[]) =>
  berth.ok(['run', '--rm', '--net', 'none', image, ...command])

test('there is a base image with a shell', async () => {
  mkdirSync(here('empty'))
  writeBusybox(here('busybox.tar'), 'busybox')
  await berth.ok(['load', '-i', here('busybox.tar')])
})

const APP = {
  Dockerfile: `# syntax=docker/dockerfile:1
ARG BASE=none
FROM $BASE AS build
ARG VERSION=0
ENV A=x B="y z"
WORKDIR /src/app
COPY . .
RUN echo "$VERSION $A \${B:-no}" >made && \\
    # a comment
    chmod 750 made && ls >list
RUN ["/bin/sh", "-c", "pwd >>made"]

FROM busybox AS never
RUN false

FROM busybox
LABEL kind=test
COPY --from=build --chown=user:staff --chmod=640 /src/app/made /out/
COPY --from=build /src/app/list /src/app/made /lists/
ADD files.tar.gz /unpacked
USER user
RUN id -u >/tmp/me
EXPOSE 80
ENTRYPOINT ["cat"]
CMD ["/out/made", "/tmp/me"]
`,
  '.dockerignore': '*.log\nsecret\n!keep.log\nDockerfile\n',
  'a.txt': 'a',
  'x.log': 'x',
  'keep.log': 'k',
  'secret/key': 'k',
  'sub/deep/f': 'f',
}

test('stages, arguments, copies, archives, users: the image runs as the Dockerfile says', async () => {
  const app = context('app', APP)
  execFileSync('tar', ['-C', app, '-czf', join(app, 'files.tar.gz'), 'sub', 'a.txt'])
  const args = [
    '--build-arg',
    'BASE=busybox',
    '--build-arg',
    'VERSION=7',
    '-t',
    'app',
    '-t',
    'app:b',
  ]
  const { code, stdout, stderr } = await build([...args, '--iidfile', here('iid'), app])
  assert.is(code, 0, stderr)
  assert.match(stderr, /\[build 1\/6\] ARG VERSION=0/)
  assert.not.match(stderr, /never/)
  assert.is(readFileSync(here('iid'), 'utf8'), stdout.trim())
  assert.is(await run('app:b'), '7 x y z\n/src/app\n1000')
  const list = await run('app', '/lists/list')
  assert.equal(list.split('\n'), ['a.txt', 'files.tar.gz', 'keep.log', 'list', 'made', 'sub'])
  const look = await berth.ok([
    ...['run', '--rm', '--net', 'none', '--entrypoint', 'stat', 'app'],
    ...['-c', '%n %a %u:%g', '/out', '/out/made', '/lists/made', '/unpacked/sub/deep/f'],
  ])
  assert.equal(look.split('\n'), [
    '/out 755 1000:50',
    '/out/made 640 1000:50',
    '/lists/made 750 0:0',
    '/unpacked/sub/deep/f 644 0:0',
  ])
  const { config } = documentsOf(berth.root, stdout.trim())
  assert.equal(config.config, {
    Cmd: ['/out/made', '/tmp/me'],
    Env: ['PATH=/bin'],
    Labels: { kind: 'test' },
    User: 'user',
    ExposedPorts: { '80/tcp': {} },
    Entrypoint: ['cat'],
  })
  const layers = (config.history ?? []).filter((step) => step.empty_layer !== true)
  assert.is(layers.length, config.rootfs.diff_ids.length)
  assert.equal(await berth.ok(['ps', '-aq']), '')
})

test('an unchanged step is taken from the cache; content, arguments and --no-cache make it anew', async () => {
  const app = here('app')
  const args = ['--build-arg', 'BASE=busybox', '--build-arg', 'VERSION=7', '-t', 'app']
  const again = async (...more: string[]) => {
    const { code, stdout, stderr } = await build([...args, ...more, app])
    assert.is(code, 0, stderr)
    const made = stderr.split('\n').filter((line) => / (RUN|COPY|ADD|WORKDIR) /.test(line))
    return { id: stdout.trim(), anew: made.filter((line) => !line.includes('CACHED')).length }
  }
  const first = await again()
  assert.is(first.anew, 0)
  // The time of a file is nothing that a step depends on.
  utimesSync(join(app, 'a.txt'), 1, 1)
  assert.equal(await again(), first)
  writeFileSync(join(app, 'x.log'), 'ignored')
  assert.equal(await again(), first)
  writeFileSync(join(app, 'a.txt'), 'b')
  assert.is((await again()).anew, 3 + 0)
  assert.ok((await again('--build-arg', 'VERSION=8')).anew >= 3)
  assert.is((await again('--no-cache')).anew, 8)
  await berth.ok(['image', 'prune', '-f', '--filter', 'label=nobody-has-it'])
  assert.is((await again()).anew, 0)
  await berth.ok(['image', 'prune', '-f'])
  assert.is((await again()).anew, 8)
})

test('a source that changes while it is copied is not taken for what it was before', async () => {
  const directory = context('changing', { Dockerfile: 'FROM busybox\nCOPY f /f\nRUN cat /f >/g' })
  const file = join(directory, 'f')
  const content = async (report: (line: string) => void) => {
    const options = {
      context: directory,
      dockerfile: undefined,
      file: undefined,
      names: ['changing'],
    }
    const none = { target: undefined, platform: undefined, network: 'none', epochNs: undefined }
    await buildImage(engineOf(berth, warnings), {
      ...{ ...options, ...none, buildArgs: new Map(), labels: {}, pull: false, noCache: false },
      ...{ addHosts: [], output: async () => {}, report },
    })
    return run('changing', 'cat', '/f', '/g')
  }
  const warnings: string[] = []
  writeFileSync(file, 'before\n')
  // Told once its digest has been taken, before it is copied.
  const change = (line: string) => void (line.includes('COPY') && writeFileSync(file, 'after\n'))
  assert.is(await content(change), 'after\nafter')
  assert.match(warnings.join(), /COPY f \/f has copied was changed meanwhile/)
  writeFileSync(file, 'before\n')
  assert.is(await content(() => {}), 'before\nbefore')
})

test('with SOURCE_DATE_EPOCH the same input gives the same digest, whatever the clock says', async () => {
  const app = here('app')
  const digests = new Set<string>()
  for (const seconds of [2_000_000_000, 2_000_000_123]) {
    utimesSync(join(app, 'sub/deep/f'), seconds, seconds)
    const { code, stdout, stderr } = await build(
      ['--no-cache', '--build-arg', 'BASE=busybox', '-q', app],
      { env: { SOURCE_DATE_EPOCH: '1700000000' } },
    )
    assert.is(code, 0, stderr)
    assert.is(stderr, '')
    const { digest, config } = documentsOf(berth.root, stdout.trim())
    assert.is(config.created, '2023-11-14T22:13:20.000Z')
    digests.add(digest)
  }
  assert.is(digests.size, 1)
})

test('a step that fails tells its line, its command and its exit code, and leaves nothing', async () => {
  await fails('FROM busybox\nENV A=1\nRUN echo so && exit 7', /line 3: RUN echo so.*exit code 7/)
  const { code, stdout, stderr } = await build(['-q', '-f', '-', here('empty')], {
    input: 'FROM busybox\nRUN echo the reason; exit 1',
  })
  assert.equal([code, stdout], [1, ''])
  assert.match(stderr, /the reason\n/)
  assert.is(await berth.ok(['ps', '-aq']), '')
})

test('what is not supported is refused by name and line before anything is made', async () => {
  for (const [line, message] of [
    ['RUN --mount=type=cache,target=/x true', /line 2: RUN --mount/],
    ['RUN --network=none true', /line 2: RUN --network/],
    ['COPY --link a b', /line 2: COPY --link/],
    ['ADD https://example.org/x /x', /line 2: ADD of an address/],
    ['ADD git@example.org:a/b.git /x', /line 2: ADD of an address/],
    ['COPY --chmod=u+x a b', /line 2: COPY --chmod/],
    ['COPY nothing /x', /line 2: there is no nothing in the build context/],
    ['COPY --from=7 a /x', /line 2/],
  ] as const)
    await fails(`FROM busybox\n${line}`, message)
  await berth.refused(['build', '--secret', 'id=x', here('empty')], /--secret/)
  await berth.refused(['build', '-'], /stdin/)
  await berth.refused(['build', here('no')], /no directory/)
  await berth.refused(['build', here('empty')], /no Dockerfile and no Containerfile/)
  await berth.refused(
    ['build', '--target', 'x', here('app')],
    /no stage "x"; it has build, never, 2/,
  )
})

test('copies go where docker puts them', async () => {
  const directory = context('copies', { 'd/a': 'a', 'd/.h': 'h', 'd/e/b': 'b', x1: '1', x2: '2' })
  symlinkSync('x1', join(directory, 'link'))
  const id = await built(
    `FROM busybox
RUN ln -s /usr/bin /link && mkdir /there
COPY d /new
COPY d /there
COPY d/e/b /there/e
COPY x1 /link/
COPY x? /many/
COPY link /plain
COPY ["x1", "/a b/c"]
WORKDIR /w
COPY d/a renamed
COPY d/e/ ./
`,
    directory,
  )
  const found = await run(
    id,
    'sh',
    '-c',
    'find /new /there /usr/bin/x1 /many /plain "/a b" /w | sort',
  )
  assert.equal(found.split('\n'), [
    '/a b', '/a b/c', '/many', '/many/x1', '/many/x2',
    '/new', '/new/.h', '/new/a', '/new/e', '/new/e/b',
    '/plain', '/there', '/there/.h', '/there/a', '/there/e', '/there/e/b',
    '/usr/bin/x1', '/w', '/w/b', '/w/renamed',
  ]) // biome-ignore format: a tree
  assert.is(await run(id, 'cat', '/plain'), '1')
  const bad = (line: string, message: RegExp) =>
    fails(`FROM busybox\nRUN mkdir /x && ln -s /usr /l\n${line}`, message, directory)
  await bad('COPY x1 x2 /two', /slash/)
  await bad('COPY d /etc/passwd', /passwd/)
  // A directory of the context in the place of a link of the image would make the image another one.
  mkdirSync(join(directory, 'root/l'), { recursive: true })
  await bad('COPY root /', /\/l: something else is there/)
})

test('links in a context and in a stage lead nowhere outside', async () => {
  writeFileSync(here('secret'), 'the secret of the host')
  const directory = context('links', {
    abs: `-> ${here('secret')}`,
    up: '-> ../secret',
    dir: `-> ${berth.directory}`,
    'Dockerfile.link': `-> ${here('secret')}`,
    loop: '-> loop',
  })
  for (const source of ['abs', 'up', 'dir/secret', '../secret', '../../../../etc/hostname', 'loop'])
    await fails(`FROM busybox\nCOPY ${source} /x`, /line 2/, directory)
  const dockerfile = await build(['-f', join(directory, 'Dockerfile.link'), directory])
  assert.is.not(dockerfile.code, 0)
  assert.not.match(dockerfile.stderr, /the secret/)
  const stage = (link: string) => `FROM busybox AS s
RUN ln -s ${link} /x
FROM busybox
COPY --from=s /x /y
RUN cat /y`
  await fails(stage(here('secret')), /line 4/, directory)
  const id = await built(stage('/../../../etc/passwd'), directory)
  assert.match(await run(id, 'cat', '/y'), /^root:/)
  // A link in the target leads inside the stage, too.
  const other = await built(
    `FROM busybox\nRUN ln -s /../..${INTO} /l && mkdir -p ${INTO}\nCOPY Dockerfile.x /l/f`,
    context('links2', { 'Dockerfile.x': 'x' }),
  )
  assert.is(await run(other, 'cat', `${INTO}/f`), 'x')
  assert.not.ok(existsSync(INTO))
})

test('an archive that leads out of its place is kept in it, and what is none is copied', async () => {
  const directory = here('archives')
  mkdirSync(join(directory, 'a'), { recursive: true })
  writeFileSync(join(directory, 'a/f'), 'f')
  execFileSync('tar', [
    '-C',
    directory,
    '--transform',
    's,^,../../../,',
    '-Pcf',
    join(directory, 'x.tar'),
    'a/f',
  ])
  writeFileSync(join(directory, 'text.gz'), execFileSync('gzip', ['-c'], { input: 'no archive' }))
  execFileSync('tar', ['-C', directory, '-cJf', join(directory, 'x.tar.xz'), 'a/f'])
  const id = await built('FROM busybox\nADD x.tar text.gz /in/\nCOPY x.tar /in/', directory)
  assert.is(
    await run(id, 'sh', '-c', 'find /in | sort; gunzip -c /in/text.gz; ls /a 2>/dev/null; true'),
    '/in\n/in/a\n/in/a/f\n/in/text.gz\n/in/x.tar\nno archive',
  )
  await fails('FROM busybox\nADD x.tar.xz /in/', /line 2: .*xz/, directory)
})

test('ONBUILD of the base runs first, once; scratch is nothing', async () => {
  const directory = context('onbuild', { f: 'content' })
  await built(
    'FROM busybox\nONBUILD COPY f /f\nONBUILD RUN echo more >>/f',
    directory,
    '-t',
    'base',
  )
  const id = await built('FROM base\nRUN cat /f >/g', directory)
  assert.is(await run(id, 'cat', '/g'), 'contentmore')
  assert.is(documentsOf(berth.root, id).config.config?.OnBuild, undefined)
  const scratch = await built('FROM scratch\nCOPY f /only', directory)
  const { config, manifest } = documentsOf(berth.root, scratch)
  assert.equal([manifest.layers.length, config.config], [1, {}])
})

test('stopped by a signal, killed, and twice at once', async () => {
  const slow = 'FROM busybox\nRUN echo begun; sleep 100'
  const begin = async () => {
    const child = berth.spawn(['build', '--network', 'none', '-f', '-', here('empty')])
    child.stdin.end(slow)
    const ended = new Promise<number | null>((resolve) => child.on('close', resolve))
    let text = ''
    child.stderr.on('data', (data) => (text += data))
    await eventually('the step runs', () => text.includes('\nbegun\n'))
    return { child, ended }
  }
  const stopped = await begin()
  stopped.child.kill('SIGINT')
  assert.is(await stopped.ended, 130)
  assert.is(await berth.ok(['ps', '-aq']), '')

  // A registry that takes connections and says nothing.
  const silent = createServer(() => {}).listen(0, '127.0.0.1')
  await once(silent, 'listening')
  const connected = once(silent, 'connection')
  const { port } = silent.address() as AddressInfo
  const pulling = berth.spawn(['build', '-f', '-', here('empty')])
  const pullEnded = once(pulling, 'close')
  pulling.stdin.end(`FROM 127.0.0.1:${port}/x`)
  const [socket] = (await connected) as [Socket]
  pulling.kill('SIGTERM')
  assert.is((await pullEnded)[0], 130)
  socket.destroy()
  silent.close()

  const killed = await begin()
  killed.child.kill('SIGKILL')
  await killed.ended
  assert.match(await berth.ok(['ps', '-q']), /^[0-9a-f]{12}$/)
  // A label alone makes no container a step of a build.
  const mine = await berth.ok(['create', '--name', 'mine', '-l', 'berth.build=step', 'busybox'])
  await berth.ok(['system', 'check', '--repair', '-q'])
  assert.is(await berth.ok(['ps', '-aq', '--no-trunc']), mine)
  await berth.ok(['rm', 'mine'])

  // The container of one that lives stays.
  const [dead, living] = [await begin(), await begin()]
  dead.child.kill('SIGKILL')
  await dead.ended
  await berth.ok(['container', 'prune', '-f'])
  const running = (await berth.ok(['ps', '-aq'])).split('\n')
  assert.is(running.length, 1)
  living.child.kill('SIGKILL')
  await living.ended
  await built('FROM scratch\nCOPY . /', here('empty'))
  assert.is(await berth.ok(['ps', '-aq']), '')

  const both = await Promise.all(
    [1, 2].map(() =>
      built(
        'FROM busybox\nRUN head -c 100000 /dev/zero >/z; sleep 0.5\nRUN echo 1 >/o',
        here('empty'),
      ),
    ),
  )
  for (const each of both) assert.is(await run(each, 'cat', '/o'), '1')
  await berth.ok(['image', 'prune', '-f'])
  const left = ['images/ingest', 'layers/tmp', 'build-cache'].flatMap((path) =>
    existsSync(join(berth.root, path)) ? readdirSync(join(berth.root, path)) : [],
  )
  assert.equal(left, [])
  rmSync(here('empty'), { recursive: true })
})

test('nothing is left behind', nothingIsLeft)

test.run()
