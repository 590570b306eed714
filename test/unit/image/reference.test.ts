import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Fault } from '../../../src/base/fault.ts'
import { familiarName, formatReference, parseReference } from '../../../src/image/reference.ts'

const HEX = 'a'.repeat(64)

const names: [given: string, full: string, familiar: string][] = [
  ['nginx', 'docker.io/library/nginx:latest', 'nginx:latest'],
  ['nginx:1.25', 'docker.io/library/nginx:1.25', 'nginx:1.25'],
  ['team/app', 'docker.io/team/app:latest', 'team/app:latest'],
  ['docker.io/nginx', 'docker.io/library/nginx:latest', 'nginx:latest'],
  ['index.docker.io/library/nginx', 'docker.io/library/nginx:latest', 'nginx:latest'],
  ['localhost/x', 'localhost/x:latest', 'localhost/x:latest'],
  ['localhost:5000/x:y', 'localhost:5000/x:y', 'localhost:5000/x:y'],
  ['[::1]:5000/x', '[::1]:5000/x:latest', '[::1]:5000/x:latest'],
  ['[fe80::1]/a/b:c', '[fe80::1]/a/b:c', '[fe80::1]/a/b:c'],
  ['quay.io/a/b/c:1', 'quay.io/a/b/c:1', 'quay.io/a/b/c:1'],
  ['Host/app', 'Host/app:latest', 'Host/app:latest'],
  ['a__b/c-d.e', 'docker.io/a__b/c-d.e:latest', 'a__b/c-d.e:latest'],
  [`nginx@sha256:${HEX}`, `docker.io/library/nginx@sha256:${HEX}`, `nginx@sha256:${HEX}`],
  [`q.io/a:1@sha256:${HEX}`, `q.io/a@sha256:${HEX}`, `q.io/a@sha256:${HEX}`],
  [`x@sha512:${HEX}${HEX}`, `docker.io/library/x@sha512:${HEX}${HEX}`, `x@sha512:${HEX}${HEX}`],
]
for (const [given, full, familiar] of names) {
  test(`${given} is ${full}`, () => {
    assert.is(formatReference(parseReference(given)), full)
    assert.is(familiarName(full), familiar)
  })
}

test('a familiar name is read back as the same image', () => {
  for (const full of [
    'docker.io/library/a/b:1',
    'docker.io/a/b:1',
    'docker.io/library/a:1',
    'docker.io/library/library/a:1',
    'docker.io/a.b/c:1',
    'docker.io/localhost/c:1',
  ]) {
    assert.is(formatReference(parseReference(familiarName(full))), full)
  }
})

const illegal: [text: string, reason: RegExp][] = [
  ['', /empty/],
  ['Nginx', /lower case/],
  ['a/B', /lower case/],
  [HEX, /image id/],
  ['a:', /tag/],
  ['a:-b', /tag/],
  [`a:${'t'.repeat(129)}`, /tag/],
  ['a//b', /empty/],
  ['a/', /empty/],
  ['/a', /empty/],
  ['../a', /host name/],
  ['a/../b', /lower-case letters/],
  ['a..b', /lower-case letters/],
  ['a___b', /lower-case letters/],
  ['-a', /lower-case letters/],
  ['a b', /lower-case letters/],
  ['a\nb', /lower-case letters/],
  ['host:99999/a', /no port/],
  ['host:abc/a', /host name/],
  ['-h.x/a', /host name/],
  ['[::zz]/a', /host name/],
  ['[:::]/a', /IPv6/],
  ['user@host.x/a', /digest/],
  ['a@sha256:12', /digest/],
  [`a@sha256:${'A'.repeat(64)}`, /digest/],
  [`a@md5:${'a'.repeat(32)}`, /digest/],
  [`a/${'b'.repeat(300)}`, /255/],
  ['a'.repeat(1000), /longer/],
]
for (const [text, reason] of illegal) {
  test(`${JSON.stringify(text.slice(0, 40))} is refused for ${reason.source}`, () => {
    assert.throws(
      () => parseReference(text),
      (error: unknown) =>
        error instanceof Fault && error.code === 'INVALID_ARGUMENT' && reason.test(error.message),
    )
  })
}

test.run()
