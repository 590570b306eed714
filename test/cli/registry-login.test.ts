import { execFile } from 'node:child_process'
import {
  chmodSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { berthOfFile } from '../lib/berth.ts'
import { dockerRegistry } from '../lib/docker-registry.ts'
import { writeLayout } from '../lib/images.ts'
import { needs } from '../lib/needs.ts'
import { TokenServer } from '../lib/token-server.ts'
import { testDirectory } from '../lib/traces.ts'

needs('root', 'program:docker-registry', 'program:skopeo', 'program:openssl')

const directory = testDirectory()
const { berth, nothingIsLeft } = berthOfFile()
const passwords = join(directory, 'htpasswd')
// bcrypt of "secret", since docker-registry takes nothing else.
writeFileSync(passwords, 'user:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n')
const basic = await dockerRegistry(directory, 'basic', {
  auth: { htpasswd: { realm: 'x', path: passwords } },
})
const tokens = await TokenServer.start(join(directory, 'token'))
tokens.users.set('user', 'secret')
const bearer = await dockerRegistry(directory, 'bearer', { auth: tokens.auth })

let homes = 0

/** A home without any login. */
function home(): { env: Record<string, string>; docker: string; podman: string } {
  const own = join(directory, `home-${homes++}`)
  const env = {
    HOME: own,
    XDG_RUNTIME_DIR: join(own, 'run'),
    XDG_CONFIG_HOME: join(own, 'config'),
    DOCKER_CONFIG: '',
    REGISTRY_AUTH_FILE: '',
  }
  return {
    env,
    docker: join(own, '.docker/config.json'),
    podman: join(own, 'run/containers/auth.json'),
  }
}

const login = (host: string, env: Record<string, string>, password = 'secret') =>
  berth.run(['login', '-u', 'user', '--password-stdin', host], { env, input: `${password}\n` })

const layout = join(directory, 'layout')
writeLayout(layout, [{ name: 'localhost/hello:latest', layers: [[{ name: 'f', content: 'x' }]] }])
await berth.ok(['load', '--quiet', '--input', layout])

for (const [kind, registry] of [
  ['htpasswd', basic],
  ['tokens', bearer],
] as const) {
  test(`${kind}: after a login an image is pushed, and pulled by berth and skopeo; after a logout it is not`, async () => {
    const { env, docker } = home()
    const name = `${registry.host}/team/hello:1`
    const push = () => berth.run(['push', '--quiet', 'hello', name], { env })
    assert.match((await push()).stderr, /valid login|log in|without credentials/)
    const { stdout, code } = await login(registry.host, env)
    assert.is(code, 0)
    assert.is(stdout, `logged in to ${registry.host}\n`)
    assert.is(statSync(docker).mode & 0o777, 0o600)
    const pushed = await push()
    assert.is(pushed.code, 0, pushed.stderr)
    assert.match(pushed.stdout, new RegExp(`^${name}@sha256:[0-9a-f]{64}\\n$`))
    const authfile = ['--authfile', docker, '--tls-verify=false']
    // Not the synchronous one: the token server is this process.
    const skopeo = ['inspect', ...authfile, `docker://${name}`]
    const { stdout: inspected } = await promisify(execFile)('skopeo', skopeo)
    assert.ok(pushed.stdout.includes((JSON.parse(inspected) as { Digest: string }).Digest))
    await berth.ok(['pull', '--quiet', name], { env })
    const raw = await berth.ok(['manifest', 'inspect', '--raw', name], { env })
    assert.is((JSON.parse(raw) as { schemaVersion: number }).schemaVersion, 2)
    assert.is(await berth.ok(['logout', registry.host], { env }), `forgotten in ${docker}`)
    assert.is((await berth.run(['pull', name], { env })).code, 125)
  })
}

test('a wrong login is refused by the registry, and the file stays as it was', async () => {
  for (const { host } of [basic, bearer]) {
    const { env, docker } = home()
    const { code, stderr } = await login(host, env, 'wrong')
    assert.is(code, 125)
    assert.match(stderr, /valid login|does not accept|refuses/)
    assert.not.match(stderr, /wrong/)
    assert.throws(() => statSync(docker))
  }
})

test('all else in the file is kept, and a link to it stays a link', async () => {
  const { env, docker } = home()
  const real = join(directory, 'real.json')
  mkdirSync(join(docker, '..'), { recursive: true })
  const other = { auths: { 'q.io': { auth: 'dTpw' } }, psFormat: 'x' }
  writeFileSync(real, JSON.stringify(other))
  symlinkSync(real, docker)
  await login(basic.host, env)
  const after = JSON.parse(readFileSync(real, 'utf8')) as typeof other
  assert.is(after.psFormat, 'x')
  assert.equal(Object.keys(after.auths).sort(), [basic.host, 'q.io'])
  await berth.ok(['logout', basic.host], { env })
  assert.equal(JSON.parse(readFileSync(docker, 'utf8')), other)
  assert.equal(readFileSync(real, 'utf8'), readFileSync(docker, 'utf8'))
})

test('a login that podman keeps is replaced where it is, for it is asked for first', async () => {
  const { env, docker, podman } = home()
  mkdirSync(join(podman, '..'), { recursive: true })
  const stale = Buffer.from('user:stale').toString('base64')
  writeFileSync(podman, JSON.stringify({ auths: { [basic.host]: { auth: stale } } }))
  await login(basic.host, env)
  assert.not.match(readFileSync(podman, 'utf8'), new RegExp(stale))
  assert.throws(() => statSync(docker))
  await berth.ok(['pull', '--quiet', `${basic.host}/team/hello:1`], { env })
})

test('ten logins at once are all kept', async () => {
  const { env, docker } = home()
  const servers = Array.from({ length: 10 }, (_, i) => `${basic.host}/team${i}`)
  const done = await Promise.all(servers.map((server) => login(server, env)))
  assert.ok(done.every(({ code }) => code === 0))
  const { auths } = JSON.parse(readFileSync(docker, 'utf8')) as { auths: object }
  assert.is(Object.keys(auths).length, 10)
})

test('where the file names a helper, that keeps the login, and the file does not', async () => {
  const { env, docker } = home()
  const programs = join(directory, 'programs')
  const kept = join(directory, 'kept')
  mkdirSync(programs, { recursive: true })
  const helper = join(programs, 'docker-credential-file')
  writeFileSync(
    helper,
    `#!/bin/sh
case $1 in
  store) cat > ${kept} ;;
  get) [ -e ${kept} ] && cat ${kept} || { echo 'credentials not found in native keychain'; exit 1; } ;;
  erase) rm ${kept} ;;
esac
`,
  )
  chmodSync(helper, 0o755)
  mkdirSync(join(docker, '..'), { recursive: true })
  writeFileSync(docker, JSON.stringify({ credsStore: 'file' }))
  const withHelper = { ...env, PATH: `${programs}:${process.env['PATH']}` }
  await login(basic.host, withHelper)
  assert.equal(JSON.parse(readFileSync(kept, 'utf8')), {
    ServerURL: basic.host,
    Username: 'user',
    Secret: 'secret',
  })
  assert.not.match(readFileSync(docker, 'utf8'), /auth":/)
  await berth.ok(['pull', '--quiet', `${basic.host}/team/hello:1`], { env: withHelper })
  const forgotten = await berth.ok(['logout', basic.host], { env: withHelper })
  assert.match(forgotten, /docker-credential-file/)
  assert.throws(() => statSync(kept))
})

test('an identity token is exchanged for tokens of the registry', async () => {
  const { env, docker } = home()
  mkdirSync(join(docker, '..'), { recursive: true })
  const auth = Buffer.from('<token>:').toString('base64')
  const entry = { auth, identitytoken: 'identity-user' }
  writeFileSync(docker, JSON.stringify({ auths: { [bearer.host]: entry } }))
  await berth.ok(['pull', '--quiet', `${bearer.host}/team/hello:1`], { env })
  const last = tokens.asked.at(-1)
  assert.is(last?.method, 'POST')
  assert.is(last?.form.get('grant_type'), 'refresh_token')
})

test('a registry that is open to all is pulled from without a login', async () => {
  const { env } = home()
  tokens.isPublic = true
  await berth.ok(['pull', '--quiet', `${bearer.host}/team/hello:1`], { env })
  assert.is(tokens.asked.at(-1)?.authorization, undefined)
  tokens.isPublic = false
})

test('--creds is a login for one command and kept nowhere', async () => {
  const { env, docker } = home()
  const name = `${basic.host}/team/hello:2`
  await berth.ok(['push', '--quiet', '--creds', 'user:secret', 'hello', name], { env })
  await berth.ok(['pull', '--quiet', '--creds', 'user:secret', name], { env })
  assert.throws(() => statSync(docker))
  const wrong = await berth.run(['pull', '--creds', 'secret', name], { env })
  assert.match(wrong.stderr, /option --creds: it must be USER:PASSWORD/)
})

test('on a terminal user and password are asked for, and the password is not shown', async () => {
  const { env, docker } = home()
  const { stdout, code } = await berth.terminal(['login', basic.host], {
    env,
    input: 'user\nsecret\n',
  })
  assert.is(code, 0, stdout)
  assert.match(stdout, /Username: user/)
  // What the terminal itself echoes before berth has taken it over is not berth's.
  assert.match(stdout, /logged in to/)
  assert.ok(statSync(docker).isFile())
})

test('all tags of a repository, and one image under several names, are pushed at once', async () => {
  const { env } = home()
  const repository = `${basic.host}/all/tags`
  await berth.ok(['tag', 'hello', `${repository}:a`, `${repository}:b`])
  const creds = ['--quiet', '--creds', 'user:secret', '--format', 'json']
  const all = await berth.ok(['push', ...creds, '--all-tags', repository], { env })
  const names = (JSON.parse(all) as { name: string; digest: string }[]).map(({ name }) => name)
  assert.equal(names, [`${repository}:a`, `${repository}:b`])
  const two = await berth.ok(['push', ...creds, 'hello', `${repository}:c`, `${repository}:d`], {
    env,
  })
  const digests = (JSON.parse(two) as { digest: string }[]).map(({ digest }) => digest)
  assert.is(digests.length, 2)
  assert.is(digests[0], digests[1])
})

const refused: [args: string[], reason: RegExp][] = [
  [['login', 'a b'], /no host name/],
  [['login', '-u', 'x', '-p', 'y', '--password-stdin', 'q.io'], /exclude each other/],
  [['login', '--password-stdin', 'q.io'], /needs --username/],
  [['login', 'q.io'], /no terminal/],
  [['login', '-u', 'a:b', '-p', 'x', '127.0.0.1:1'], /colon/],
  [['push', '--tls-verify=false', 'hello', 'q.io/x'], /hosts\.toml/],
  [['push', '--all-tags', '127.0.0.1:5000/none'], /no image here has a name/],
  [['push', '--all-tags', 'q.io/none:1'], /without tag/],
]
for (const [args, reason] of refused) {
  test(`berth ${args.join(' ')} is refused`, () => berth.refused(args, reason))
}

test('nothing is left behind', async () => {
  await Promise.all([basic.stop(), bearer.stop(), tokens.stop()])
  rmSync(directory, { recursive: true, force: true })
  await nothingIsLeft()
})

test.run()
