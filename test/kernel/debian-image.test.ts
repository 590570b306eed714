/** A real distribution, packed by other people's tools: its tree is what theirs show, and its programs run. */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  closeSync,
  constants,
  existsSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { binding } from '../../src/kernel/binding.ts'
import { overlayMount } from '../../src/kernel/mount-api.ts'
import { berthOfFile } from '../lib/berth.ts'
import { eventually } from '../lib/eventually.ts'
import { needs } from '../lib/needs.ts'

needs(
  'root',
  'overlay',
  'cgroup2',
  'program:debootstrap',
  'program:umoci',
  'program:buildah',
  'program:skopeo',
  'program:setcap',
  'program:setfattr',
)

/** Kept between runs: making it takes minutes. What is in it carries its recipe's digest in its name. */
const CACHE = join(tmpdir(), 'berth-test-debian')
const PACKAGES = 'python3,perl,passwd'
const NAME = 'example.com/debian:test'
const O_PATH = 0o10000000

/** In the root of the image, a layer each; `umoci repack` writes what changed. The first is Debian itself. */
const LAYERS = [
  `rm -rf usr/share/doc/apt var/cache/apt usr/share/man
   mkdir -p usr/share/man/new && echo hi >usr/share/man/new/page
   ln bin/ls opt/ls-hard && ln bin/ls opt/ls-harder
   cp bin/chown opt/chown-cap && setcap cap_chown+ep opt/chown-cap
   cp usr/bin/id opt/id-setuid && chmod 4755 opt/id-setuid
   cp usr/bin/id opt/replaced && setfattr -n user.note -v 'of a file' opt/id-setuid
   mkdir opt/box && setfattr -n user.note -v 'of a directory' opt/box && chmod 1777 opt/box
   mkdir opt/old && echo 1 >opt/old/one && mkdir opt/old/deep && echo 2 >opt/old/deep/two`,
  `rm opt/replaced && mkdir opt/replaced && echo x >opt/replaced/inside
   mkfifo opt/fifo && ln -s ../etc/passwd opt/link && ln -s /nowhere opt/dangling && ln opt/link opt/link-hard
   echo 3 >opt/three && chown 1000:1001 opt/three && chmod 0640 opt/three && touch -d @1.5 opt/three
   mknod opt/null c 1 3 && mknod opt/loop b 7 0 && chown -h 12345:54321 opt/dangling
   rm -rf usr/share/locale && truncate -s 8M opt/sparse && echo end >>opt/sparse
   mkdir opt/forbidden && chown 7:8 opt/forbidden && chmod 0 opt/forbidden
   chmod 2755 opt/box && rm opt/ls-harder && touch 'opt/na me' opt/ünï`,
]
/** Added as it is: repack writes no opaque marks, and no times finer than a second. */
const OPAQUE = `mkdir -p opt/old/new && touch opt/old/.wh..wh..opq && echo 4 >opt/old/new/four
   mkdir -p etc && touch etc/.wh.issue && echo fine >opt/fine && touch -d @1700000000.123456789 opt/fine`

/** What leads to the same with a tool that finds out by itself what has changed. */
const LAST = `rm -rf opt/old && mkdir -p opt/old/new && echo 4 >opt/old/new/four
   rm etc/issue && echo fine >opt/fine && touch -d @1700000000.123456789 opt/fine`

function sh(cwd: string, script: string): string {
  return execFileSync('sh', ['-euc', script], {
    cwd,
    encoding: 'utf8',
    maxBuffer: 64 * 2 ** 20,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
}

/** The mirror that this machine's apt uses; debootstrap's own default where it names none. */
function mirror(): string {
  const format = '$(CREATED_BY)|$(ORIGIN)|$(CODENAME)|$(REPO_URI)'
  const rows = execFileSync('apt-get', ['indextargets', '--format', format], { encoding: 'utf8' })
    .split('\n')
    .map((line) => line.split('|'))
  const found = rows.find(
    ([by, origin, codename = '-']) =>
      by === 'Packages' && origin === 'Debian' && !codename.includes('-'),
  )
  return found?.[3] ?? ''
}

/** Makes a directory once: what is there under its final name is complete. */
function once(name: string, make: (directory: string) => void): string {
  const path = join(CACHE, name)
  if (existsSync(path)) return path
  const work = `${path}.${process.pid}`
  mkdirSync(work, { recursive: true })
  try {
    make(work)
    renameSync(work, path)
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
  return path
}

/** The path of Debian's own tree. */
function debian(): string {
  const directory = once(`bookworm-${PACKAGES.replaceAll(',', '-')}`, (work) => {
    sh(
      work,
      `debootstrap --variant=minbase --include=${PACKAGES} bookworm root ${mirror()} >log 2>&1 || { tail log >&2; exit 1; }
       rm -rf root/var/cache/apt/archives/*.deb root/var/lib/apt/lists/*`,
    )
  })
  return join(directory, 'root')
}

function makeImage(directory: string): void {
  const image = 'layout:made'
  sh(directory, `umoci init --layout layout; umoci new --image ${image}`)
  sh(
    directory,
    `umoci unpack --image ${image} bundle; rm -rf bundle/rootfs; cp -a ${debian()} bundle/rootfs
     umoci repack --image ${image} --refresh-bundle bundle`,
  )
  for (const layer of LAYERS) {
    sh(join(directory, 'bundle/rootfs'), layer)
    sh(directory, `umoci repack --image ${image} --refresh-bundle bundle`)
  }
  mkdirSync(join(directory, 'opaque/opt'), { recursive: true })
  sh(join(directory, 'opaque'), OPAQUE)
  sh(
    directory,
    `tar --create --format=pax --file layer.tar --directory opaque opt/old opt/fine etc/.wh.issue
     umoci raw add-layer --image ${image} layer.tar
     umoci config --image ${image} --config.cmd /bin/bash
     skopeo copy --quiet oci:${image} docker-archive:docker.tar:${NAME}
     skopeo copy --quiet oci:${image} oci-archive:oci.tar:${NAME}
     rm -rf bundle opaque layer.tar; umoci unpack --image ${image} expected`,
  )
}

/** The same by buildah, which has whiteouts and opaque marks of its own; `built` is what it mounts of the archive. */
function buildImage(directory: string): void {
  const layers = [`cp -a ${debian()}/. .`, ...LAYERS, LAST]
  const store = (name: string): string =>
    `buildah --root ${directory}/${name} --runroot ${directory}/${name}-run --storage-driver overlay`
  const steps = layers.map(
    (layer, index) => `
      c=$(${store('made')} from ${index === 0 ? 'scratch' : `layer-${index - 1}`})
      (cd "$(${store('made')} mount "$c")"; ${layer})
      ${store('made')} commit --quiet --rm "$c" layer-${index}`,
  )
  const script = `${steps.join('')}
    ${store('made')} push --quiet layer-${layers.length - 1} docker-archive:docker.tar:${NAME}
    cp -a "$(${store('read')} mount "$(${store('read')} from docker-archive:docker.tar)")" built`
  // Its mounts go with the namespace.
  execFileSync('unshare', ['--mount', '--propagation', 'private', 'sh', '-euc', script], {
    cwd: directory,
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  for (const name of ['made', 'read']) {
    rmSync(join(directory, name), { recursive: true })
    rmSync(join(directory, `${name}-run`), { recursive: true, force: true })
  }
}

interface Node {
  readonly type: number
  readonly [key: string]: string | number
}

/** Everything that can be seen of a tree, by path. Names that lead to one file have the same `same`: the first of them. */
function look(root: string): Map<string, Node> {
  const nodes = new Map<string, Node>()
  const links = new Map<string, string>()
  const visit = (path: string): void => {
    const at = join(root, path)
    const status = lstatSync(at, { bigint: true })
    const type = Number(status.mode) & constants.S_IFMT
    const key = `${status.dev}:${status.ino}`
    const isDirectory = type === constants.S_IFDIR
    if (!isDirectory && !links.has(key)) links.set(key, path)
    nodes.set(path, {
      type,
      mode: (Number(status.mode) & 0o7777).toString(8),
      owner: `${status.uid}:${status.gid}`,
      mtime: String(status.mtimeNs),
      xattrs: xattrs(at),
      ...(isDirectory ? {} : { same: links.get(key) ?? '', links: Number(status.nlink) }),
      ...(type === constants.S_IFREG ? { size: Number(status.size), content: digest(at) } : {}),
      ...(type === constants.S_IFLNK ? { to: readlinkSync(at) } : {}),
      ...(type === constants.S_IFCHR || type === constants.S_IFBLK
        ? { device: String(status.rdev) }
        : {}),
    })
    if (isDirectory) for (const name of readdirSync(at).sort()) visit(join(path, name))
  }
  visit('/')
  return nodes
}

function digest(path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex')
}

function xattrs(path: string): string {
  const fd = openSync(path, O_PATH | constants.O_NOFOLLOW)
  try {
    return binding
      .flistxattr(fd)
      .sort()
      .map((name) => `${name}=${binding.fgetxattr(fd, name).toString('hex')}`)
      .join(' ')
  } finally {
    closeSync(fd)
  }
}

function differences(is: Map<string, Node>, expected: Map<string, Node>): string[] {
  const told: string[] = []
  for (const [path, node] of expected) {
    const found = is.get(path)
    if (!found) told.push(`${path} is missing`)
    for (const key of new Set([...Object.keys(node), ...Object.keys(found ?? {})])) {
      if (found && found[key] !== node[key])
        told.push(`${path}: ${key} is ${found[key]}, not ${node[key]}`)
    }
  }
  for (const path of is.keys()) if (!expected.has(path)) told.push(`${path} should not be there`)
  return told
}

const recipe = (last: string): string =>
  createHash('sha256')
    .update(JSON.stringify([PACKAGES, LAYERS, last, NAME]))
    .digest('hex')
    .slice(0, 12)
const image = once(`image-${recipe(OPAQUE)}`, makeImage)
const built = once(`built-${recipe(LAST)}`, buildImage)
const expected = look(join(image, 'expected/rootfs'))
const { berth, nothingIsLeft } = berthOfFile()
const SLOW = { timeoutMs: 120_000 }

/** What a new container of the image would see, without one of ours in between. */
async function treeOfContainer(): Promise<Map<string, Node>> {
  const id = await berth.ok(['create', '--net', 'none', NAME, 'true'])
  const directory = join(berth.root, 'containers', id)
  const record = JSON.parse(readFileSync(join(directory, 'record.json'), 'utf8')) as {
    lower: string[]
  }
  const lower = [join(directory, 'upper'), ...record.lower.map((path) => join(berth.root, path))]
  using mount = overlayMount({ lower })
  const seen = look(`/proc/self/fd/${mount.number}`)
  await berth.ok(['rm', id])
  return seen
}

test('the image has what a tree can have', () => {
  assert.ok(expected.size > 5000, String(expected.size))
  // Names of one file: of one layer, of two layers, and of a symbolic link.
  for (const [one, other] of [
    ['/usr/bin/perl', '/usr/bin/perl5.36.0'],
    ['/opt/ls-hard', '/usr/bin/ls'],
    ['/opt/link', '/opt/link-hard'],
  ] as const) {
    assert.is(expected.get(other)?.['same'], one)
    assert.is(expected.get(other)?.['links'], 2)
  }
  assert.match(String(expected.get('/opt/chown-cap')?.['xattrs']), /^security\.capability=/)
  assert.is(expected.get('/opt/fine')?.['mtime'], '1700000000123456789')
  for (const gone of ['/opt/old/one', '/opt/old/deep', '/usr/share/doc/apt', '/etc/issue']) {
    assert.is(expected.has(gone), false, gone)
  }
})

for (const kind of ['docker', 'oci']) {
  test(`a container of its ${kind}-archive has the tree that umoci unpacks`, async () => {
    await berth.ok(['load', '-i', join(image, `${kind}.tar`)], SLOW)
    const told = differences(await treeOfContainer(), expected)
    assert.equal(told.slice(0, 20), [], `${told.length} differences`)
    if (kind === 'docker') await berth.ok(['rmi', NAME])
  })
}

test('a file that is full of holes takes no room, though its archive has every zero', () => {
  const layers = join(berth.root, 'layers/sha256')
  const files = readdirSync(layers)
    .map((hex) => join(layers, hex, 'tree/opt/sparse'))
    .filter((path) => existsSync(path))
  assert.is(files.length, 1)
  const { size, blocks } = lstatSync(files[0] ?? '')
  assert.is(size, 8 * 2 ** 20 + 4)
  assert.ok(blocks * 512 < 2 ** 20, `${blocks} blocks`)
})

const run = (options: readonly string[], ...command: string[]): Promise<string> =>
  berth.ok(['run', '--rm', '--net', 'none', ...options, NAME, ...command])

test('apt-get runs', async () => {
  assert.match(await run([], 'apt-get', '--version'), /^apt 2\./)
})

test('perl runs', async () => {
  assert.is(await run([], 'perl', '-e', 'print join ",", map { $_ * $_ } 1..4'), '1,4,9,16')
})

test('su becomes another user', async () => {
  assert.is(await run([], 'su', '-s', '/bin/sh', 'nobody', '-c', 'id -un; id -u'), 'nobody\n65534')
})

test('a setuid program has its owner’s rights, and none with no-new-privileges', async () => {
  assert.is(await run(['-u', '1000'], '/opt/id-setuid', '-u'), '0')
  const strict = ['-u', '1000', '--security-opt', 'no-new-privileges']
  assert.is(await run(strict, '/opt/id-setuid', '-u'), '1000')
})

test('a file capability works for a user without any, but not with no-new-privileges', async () => {
  const script = 'touch /tmp/f && /opt/chown-cap 33:44 /tmp/f && stat -c %u:%g /tmp/f'
  assert.is(await run(['-u', '1000'], 'sh', '-c', script), '33:44')
  const strict = ['-u', '1000', '--security-opt', 'no-new-privileges']
  assert.match(await run(strict, 'sh', '-c', `${script} 2>&1 || echo refused`), /refused$/)
})

test('all of it works under a user namespace of its own, too', async () => {
  const own = ['--userns', 'auto']
  assert.is(await run([...own, '-u', '1000'], '/opt/id-setuid', '-u'), '0')
  const script = 'touch /tmp/f && /opt/chown-cap 33:44 /tmp/f && stat -c %u:%g /tmp/f /opt/three'
  assert.is(await run([...own, '-u', '1000'], 'sh', '-c', script), '33:44\n1000:1001')
})

test('python3 -m http.server serves, as an exec in the same container sees', async () => {
  const id = await berth.ok([
    ...['run', '-d', '--net', 'none', '-w', '/opt', NAME],
    ...['python3', '-m', 'http.server', '--bind', '127.0.0.1', '8000'],
  ])
  const fetch = 'import urllib.request as u; print(u.urlopen("http://127.0.0.1:8000/three").read())'
  const got = await eventually('it listens', async () => {
    const { code, stdout } = await berth.run(['exec', id, 'python3', '-c', fetch])
    return code === 0 && stdout
  })
  assert.is(got, "b'3\\n'\n")
  await eventually('the request is in its log', async () =>
    (await berth.run(['logs', id])).stderr.includes('GET /three'),
  )
  await berth.ok(['rm', '--force', id])
})

/** An overlay counts the names of a file that a layer above has taken away, too; the copy of one does not. `same` stays. */
function withoutCounts(nodes: Map<string, Node>): Map<string, Node> {
  return new Map([...nodes].map(([path, node]) => [path, { ...node, links: 0 }]))
}

test("a container of buildah's docker-archive has the tree that buildah mounts", async () => {
  await berth.ok(['rmi', NAME])
  await berth.ok(['load', '-i', join(built, 'docker.tar')], SLOW)
  const is = withoutCounts(await treeOfContainer())
  const shown = withoutCounts(look(join(built, 'built')))
  assert.ok(shown.size > 5000, String(shown.size))
  for (const gone of ['/opt/old/one', '/opt/old/deep', '/usr/share/doc/apt', '/etc/issue']) {
    assert.is(shown.has(gone), false, gone)
  }
  // No layer has an entry for the root: each store gives it attributes of its own.
  is.delete('/')
  shown.delete('/')
  const told = differences(is, shown)
  assert.equal(told.slice(0, 20), [], `${told.length} differences`)
})

test('nothing is left behind', nothingIsLeft)

test.run()
