import { execFileSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { describe } from '../../src/base/fault.ts'
import {
  collect,
  inspectImage,
  loadArchive,
  pullImage,
  pushImage,
  removeImage,
} from '../../src/image/index.ts'
import { Authority } from '../lib/certificates.ts'
import { dockerRegistry, freePort } from '../lib/docker-registry.ts'
import { privateStore } from '../lib/image-store.ts'
import { type TarEntry, tar, writeLayout } from '../lib/images.ts'
import { needs } from '../lib/needs.ts'
import { refused } from '../lib/refused.ts'
import { TestRegistry } from '../lib/registry.ts'
import { testDirectory, traces } from '../lib/traces.ts'

needs('root', 'program:docker-registry', 'program:skopeo', 'program:openssl')

const directory = testDirectory()
// libuv opens /dev/null for itself with a process's first socket: that is none of ours to find.
await freePort()
const clean = traces({ roots: [directory] })
const LAYERS: TarEntry[][] = [
  [
    { name: 'etc/', type: 'directory' },
    { name: 'etc/one', content: 'first\n' },
    { name: 'big', content: Buffer.alloc(300_000, 'x') },
  ],
  [{ name: 'etc/two', content: 'second\n', uid: 7 }],
  [{ name: 'etc/.wh.one', content: '' }],
]
const layout = join(directory, 'layout')
writeLayout(layout, [{ name: 'app:1', layers: LAYERS, config: { Cmd: ['/x'], Env: ['A=b'] } }])

function skopeo(...args: string[]): string {
  return execFileSync('skopeo', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
}

function push(host: string, name: string, ...options: string[]): void {
  const insecure = ['--dest-tls-verify=false', '--insecure-policy']
  skopeo('copy', ...insecure, ...options, `oci:${layout}:app:1`, `docker://${host}/${name}`)
}

function treeFile(store: ReturnType<typeof privateStore>, diffId: string, path: string): string {
  return readFileSync(join(store.layers.treePath(diffId), path), 'utf8')
}

const plain = await dockerRegistry(directory, 'plain')
push(plain.host, 'team/app:1')

test('an image that skopeo pushed is pulled from docker-registry, digests and trees verified', async () => {
  using store = privateStore()
  const pulled = await pullImage(store, `${plain.host}/team/app:1`)
  const inspected = JSON.parse(
    skopeo('inspect', '--tls-verify=false', `docker://${plain.host}/team/app:1`),
  ) as { Digest: string }
  assert.is(pulled.digest, inspected.Digest)
  const { image, config } = inspectImage(store, `${plain.host}/team/app:1`)
  assert.is(image.id, pulled.id)
  assert.equal(image.repoDigests, [`${plain.host}/team/app@${pulled.digest}`])
  assert.equal(config.config?.Env, ['A=b'])
  const [first = '', second = ''] = image.diffIds
  assert.is(treeFile(store, first, 'etc/one'), 'first\n')
  assert.is(treeFile(store, second, 'etc/two'), 'second\n')
})

test('a second pull fetches no layer and finds nothing new', async () => {
  using store = privateStore()
  await pullImage(store, `${plain.host}/team/app:1`)
  const phases = new Set<string>()
  const again = await pullImage(store, `${plain.host}/team/app:1`, {
    progress: ({ phase }) => phases.add(phase),
  })
  assert.is(again.isNew, false)
  assert.equal([...phases], ['exists'])
})

test('an image is pulled by digest, and by a tag with the digest, which decides', async () => {
  using store = privateStore()
  const { digest, id } = await pullImage(store, `${plain.host}/team/app:1`)
  using other = privateStore()
  const byDigest = await pullImage(other, `${plain.host}/team/app:nonsense@${digest}`)
  assert.is(byDigest.id, id)
  assert.equal(inspectImage(other, id).image.names, [])
})

test('zstd layers are pulled', async () => {
  using store = privateStore()
  push(plain.host, 'team/zstd:1', '--dest-compress-format=zstd', '--dest-compress')
  const { id } = await pullImage(store, `${plain.host}/team/zstd:1`)
  const [first = ''] = inspectImage(store, id).image.diffIds
  assert.is(treeFile(store, first, 'etc/one'), 'first\n')
})

test('docker schema 2 is pulled, with the id that docker would give', async () => {
  using store = privateStore()
  push(plain.host, 'team/docker:1', '--format=v2s2')
  const { id, digest } = await pullImage(store, `${plain.host}/team/docker:1`)
  const raw = JSON.parse(
    skopeo('inspect', '--raw', '--tls-verify=false', `docker://${plain.host}/team/docker:1`),
  ) as { config: { digest: string }; mediaType: string }
  assert.match(raw.mediaType, /docker/)
  assert.is(id, raw.config.digest)
  assert.match(digest, /^sha256:/)
})

test('what is not there is NOT_FOUND with the registry named', async () => {
  using store = privateStore()
  try {
    await pullImage(store, `${plain.host}/team/none:1`)
    assert.unreachable()
  } catch (error) {
    assert.match(String(error), new RegExp(`${plain.host.replaceAll('.', '\\.')} has no `))
  }
})

test('a mirror of hosts.toml is asked first, the registry itself where the mirror has nothing', async () => {
  using store = privateStore()
  const empty = await TestRegistry.start()
  const certs = join(store.directory, 'certs.d')
  mkdirSync(join(certs, 'mirrored.example'), { recursive: true })
  writeFileSync(
    join(certs, 'mirrored.example', 'hosts.toml'),
    `server = "http://${plain.host}"
[host."${empty.url}"]
capabilities = ["pull", "resolve"]
`,
  )
  const options = { certsDirectories: [certs] }
  const { name } = await pullImage(store, 'mirrored.example/team/app:1', options)
  await empty.stop()
  assert.is(name, 'mirrored.example/team/app:1')
  assert.ok(empty.seen.every(({ path }) => path.includes('ns=mirrored.example')))
  assert.ok(empty.count('/manifests/1') > 0)
})

test('where no address has an image, what each of them said is told', async () => {
  using store = privateStore()
  const mirror = await TestRegistry.start()
  const other = await TestRegistry.start()
  const certs = join(store.directory, 'certs.d')
  mkdirSync(join(certs, 'mirrored.example'), { recursive: true })
  writeFileSync(
    join(certs, 'mirrored.example', 'hosts.toml'),
    `server = "http://${other.host}"
[host."${mirror.url}"]
capabilities = ["pull", "resolve"]
`,
  )
  const pull = pullImage(store, 'mirrored.example/team/app:9', { certsDirectories: [certs] })
  const text = await pull.then(() => 'no failure', describe)
  assert.ok(text.startsWith(`${other.host} has no `), text)
  assert.ok(text.includes(`${mirror.host} has no mirrored.example/team/app:9`), text)
  await mirror.stop()
  await other.stop()
})

test('the archives that skopeo makes load to the same id and trees as the pull', async () => {
  using store = privateStore()
  const { id } = await pullImage(store, `${plain.host}/team/app:1`)
  const trees = inspectImage(store, id).image.diffIds
  for (const kind of ['docker-archive', 'oci-archive', 'oci']) {
    using other = privateStore()
    const path = join(other.directory, `${kind}.tar`)
    const source = `docker://${plain.host}/team/app:1`
    skopeo(
      'copy',
      '--src-tls-verify=false',
      '--insecure-policy',
      source,
      `${kind}:${path}:localhost/saved:2`,
    )
    const [loaded] = await loadArchive(other, path)
    assert.equal(loaded?.names, ['localhost/saved:2'], kind)
    const { image } = inspectImage(other, 'localhost/saved:2')
    assert.equal(image.diffIds, trees, kind)
    if (kind !== 'docker-archive') assert.is(image.id, id, kind)
  }
})

test('htpasswd: the right password pulls, a wrong one and none are UNAUTHENTICATED', async () => {
  const password = join(directory, 'htpasswd')
  // bcrypt of "secret", since docker-registry takes nothing else.
  writeFileSync(password, 'user:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n')
  const registry = await dockerRegistry(directory, 'basic', {
    auth: { htpasswd: { realm: 'x', path: password } },
  })
  try {
    using store = privateStore()
    const right = { kind: 'basic', username: 'user', password: 'secret' } as const
    push(registry.host, 'team/app:1', '--dest-creds=user:secret')
    assert.ok((await pullImage(store, `${registry.host}/team/app:1`, { credentials: right })).id)
    const credentials = { ...right, password: 'wrong' }
    for (const options of [{}, { credentials }]) {
      try {
        await pullImage(store, `${registry.host}/team/app:1`, options)
        assert.unreachable()
      } catch (error) {
        assert.is((error as { code?: string }).code, 'UNAUTHENTICATED')
      }
    }
  } finally {
    await registry.stop()
  }
})

test('TLS with an own CA: refused without it, pulled with ca in hosts.toml', async () => {
  const key = join(directory, 'key.pem')
  const cert = join(directory, 'cert.pem')
  const made = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '1']
  const subject = ['-subj', '/CN=berth test', '-addext', 'subjectAltName=IP:127.0.0.1']
  execFileSync('openssl', ['req', '-x509', ...made, '-keyout', key, '-out', cert, ...subject], {
    stdio: 'ignore',
  })
  const registry = await dockerRegistry(directory, 'tls', {}, { tls: { certificate: cert, key } })
  try {
    push(registry.host, 'team/app:1')
    using store = privateStore()
    const certs = join(store.directory, 'certs.d')
    const folder = join(certs, registry.host)
    mkdirSync(folder, { recursive: true })
    const write = (extra: string): void =>
      writeFileSync(join(folder, 'hosts.toml'), `server = "https://${registry.host}"\n${extra}\n`)
    const options = { certsDirectories: [certs] }
    // This machine is spoken to by plain HTTP where no file says otherwise, and a status alone would tell nobody why that fails.
    await refused(
      pullImage(store, `${registry.host}/team/app:1`, options),
      'UNAVAILABLE',
      /by plain HTTP: .* certs\.d/,
    )
    write('')
    try {
      await pullImage(store, `${registry.host}/team/app:1`, options)
      assert.unreachable()
    } catch (error) {
      assert.match(String(error), /certificate/)
    }
    write(`ca = "${cert}"`)
    assert.ok((await pullImage(store, `${registry.host}/team/app:1`, options)).id)
    using other = privateStore()
    write('skip_verify = true')
    assert.ok((await pullImage(other, `${registry.host}/team/app:1`, options)).id)
  } finally {
    await registry.stop()
  }
})

test('client certificates, from certs.d as docker and podman have them and from hosts.toml', async () => {
  const authority = new Authority(join(directory, 'authority'))
  const server = authority.issue('server', 'IP:127.0.0.1')
  const client = authority.issue('client')
  const ca = authority.own.certificate
  const { certificate, key } = server
  const registry = await dockerRegistry(
    directory,
    'mutual',
    {},
    { tls: { certificate, key, clientcas: [ca] } },
  )
  try {
    using store = privateStore()
    using source = privateStore()
    const certs = join(store.directory, 'certs.d')
    const folder = join(certs, registry.host)
    mkdirSync(folder, { recursive: true })
    const options = { certsDirectories: [certs], registriesPaths: [] }
    const name = `${registry.host}/team/app:1`
    await pullImage(source, `${plain.host}/team/app:1`)
    const push = () => pushImage(source, `${plain.host}/team/app:1`, name, options)
    copyFileSync(ca, join(folder, 'ca.crt'))
    const refused = await push().then(() => 'no failure', describe)
    assert.match(refused, /certificate|cannot (?:reach|speak)/)
    copyFileSync(client.certificate, join(folder, 'client.cert'))
    copyFileSync(client.key, join(folder, 'client.key'))
    const { digest } = await push()
    assert.is((await pullImage(store, name, options)).digest, digest)
    using other = privateStore()
    const toml = `ca = "ca.crt"\nclient = [["client.cert", "client.key"]]\n`
    writeFileSync(join(folder, 'hosts.toml'), `server = "https://${registry.host}"\n${toml}`)
    assert.is((await pullImage(other, name, options)).digest, digest)
  } finally {
    await registry.stop()
  }
})

test('of two registries with the same blobs the second sends none, and the image has a name at each', async () => {
  const other = await dockerRegistry(directory, 'twin')
  try {
    push(other.host, 'else/where:2')
    using store = privateStore()
    const { id } = await pullImage(store, `${plain.host}/team/app:1`)
    const phases = new Set<string>()
    const twin = await pullImage(store, `${other.host}/else/where:2`, {
      progress: ({ phase }) => phases.add(phase),
    })
    assert.is(twin.id, id)
    assert.equal([...phases], ['exists'])
    assert.equal(
      inspectImage(store, id).image.names,
      [`${plain.host}/team/app:1`, `${other.host}/else/where:2`].sort(),
    )
  } finally {
    await other.stop()
  }
})

test('a mirror of registries.conf that pulls through, and goes on when the registry is gone', async () => {
  const origin = await dockerRegistry(directory, 'origin')
  push(origin.host, 'team/app:1')
  const cache = await dockerRegistry(directory, 'cache', {
    proxy: { remoteurl: `http://${origin.host}` },
  })
  try {
    using store = privateStore()
    const conf = join(store.directory, 'registries.conf')
    writeFileSync(
      conf,
      `[[registry]]\nprefix = "hub.example"\nlocation = "${origin.host}"\n[[registry.mirror]]\nlocation = "${cache.host}"\n`,
    )
    const options = { certsDirectories: [], registriesPaths: [conf] }
    const { digest } = await pullImage(store, 'hub.example/team/app:1', options)
    await origin.stop()
    using other = privateStore()
    const again = await pullImage(other, `hub.example/team/app@${digest}`, options)
    assert.is(again.digest, digest)
  } finally {
    await Promise.all([origin.stop(), cache.stop()])
  }
})

test('what is removed by its last name leaves no blob and no layer', async () => {
  using store = privateStore()
  const { id } = await pullImage(store, `${plain.host}/team/app:1`)
  const roots = () => ({ images: [], layers: [] })
  const removed = await removeImage(store, `${plain.host}/team/app:1`, {
    force: false,
    users: () => [],
    roots,
  })
  assert.equal(removed.deleted, [id])
  assert.is(removed.collected.isDone, true)
  assert.is(removed.collected.layers, 3)
  assert.equal([...store.blobs.list()], [])
  const again = await collect(store, { roots, wait: true, partials: true })
  assert.is(again.reclaimedBytes, 0)
})

test('a root file system in a tar with a wrong type loads as no image', async () => {
  using store = privateStore()
  const path = join(store.directory, 'root.tar')
  writeFileSync(path, tar(LAYERS[0] ?? []))
  try {
    await loadArchive(store, path)
    assert.unreachable()
  } catch (error) {
    assert.match(String(error), /berth import/)
  }
})

test.after(async () => {
  await plain.stop()
  rmSync(directory, { recursive: true, force: true })
})

test('the registry of these tests ends', async () => {
  await plain.stop()
  rmSync(directory, { recursive: true, force: true })
  assert.not(existsSync(directory))
  await clean()
})

test.run()
