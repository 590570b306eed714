import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { endpointsOf } from '../../../src/image/endpoints.ts'
import { parseReference } from '../../../src/image/reference.ts'

const directory = mkdtempSync(join(tmpdir(), 'berth-endpoints-'))
const conf = join(directory, 'registries.conf')

function write(path: string, text: string): void {
  mkdirSync(join(directory, path, '..'), { recursive: true })
  writeFileSync(join(directory, path), text)
}

function endpoints(name: string) {
  const settings = { certsDirectories: [join(directory, 'certs')], registriesPaths: [conf] }
  return endpointsOf(parseReference(name), settings, assert.unreachable)
}
const hosts = (name: string): string[] => endpoints(name).map(({ url }) => url.host)

write(
  'registries.conf',
  `[[registry]]
location = "both.io"
[[registry.mirror]]
location = "conf-mirror.io"
[[registry]]
location = "conf.io"
[[registry.mirror]]
location = "conf-mirror.io"
[[registry]]
location = "blocked.io"
blocked = true
`,
)
write('certs/both.io/hosts.toml', '[host."https://toml-mirror.io"]\n')
write('certs/blocked.io/hosts.toml', '[host."https://toml-mirror.io"]\n')
write('certs/_default/hosts.toml', '[host."https://default-mirror.io"]\n')
write('certs/conf-mirror.io/ca.crt', 'x')
write('certs/own.io/b.crt', 'x')
write('certs/own.io/a.crt', 'x')
write('certs/own.io/client.cert', 'x')
write('certs/own.io/client.key', 'x')
write('certs/half.io/client.cert', 'x')

test('hosts.toml of the host wins over registries.conf, which wins over _default', () => {
  assert.equal(hosts('both.io/x'), ['toml-mirror.io', 'both.io'])
  assert.equal(hosts('conf.io/x'), ['conf-mirror.io', 'conf.io'])
  assert.equal(hosts('other.io/x'), ['default-mirror.io', 'other.io'])
})

test('what registries.conf blocks is blocked whatever hosts.toml says', () => {
  assert.throws(() => hosts('blocked.io/x'), /blocks blocked\.io/)
})

test('certificates of a folder are those of its host, a mirror of registries.conf too', () => {
  const folder = join(directory, 'certs/own.io')
  const [own] = endpoints('own.io/x')
  assert.equal(own?.tls, {
    ca: [join(folder, 'a.crt'), join(folder, 'b.crt')],
    client: [{ certificate: join(folder, 'client.cert'), key: join(folder, 'client.key') }],
    skipVerify: false,
  })
  assert.is(endpoints('conf.io/x')[0]?.tls.ca.length, 1)
})

test('a certificate without its key is refused', () => {
  assert.throws(() => hosts('half.io/x'), /client\.cert needs client\.key/)
})

test('a change of the files counts from the next call on', () => {
  write('certs/live.io/hosts.toml', '[host."https://one.io"]\n')
  assert.is(hosts('live.io/x')[0], 'one.io')
  write('certs/live.io/hosts.toml', '[host."https://two.io"]\n')
  assert.is(hosts('live.io/x')[0], 'two.io')
})

test.after(() => rmSync(directory, { recursive: true, force: true }))
test.run()
