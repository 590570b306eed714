import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { proxyFor } from '../../../src/image/proxy.ts'

const SET = { HTTPS_PROXY: 'http://p:3128', HTTP_PROXY: 'q:80' }

const cases: [url: string, environment: Record<string, string>, expected: string | undefined][] = [
  ['https://q.io', {}, undefined],
  ['https://q.io', SET, 'http://p:3128/'],
  ['http://q.io', SET, 'http://q/'],
  ['https://q.io', { https_proxy: 'https://u:p@low:1' }, 'https://u:p@low:1/'],
  ['https://q.io', { HTTPS_PROXY: 'http://up', https_proxy: 'http://low' }, 'http://up/'],
  ['https://q.io', { ALL_PROXY: 'http://p' }, undefined],
  ['https://localhost:5000', SET, undefined],
  ['https://127.0.0.9', SET, undefined],
  ['https://[::1]:5000', SET, undefined],
]
for (const [url, environment, expected] of cases) {
  test(`${url} with ${JSON.stringify(environment)} goes by ${expected ?? 'no proxy'}`, () => {
    assert.is(proxyFor(new URL(url), environment)?.href, expected)
  })
}

const exceptions: [noProxy: string, url: string, isDirect: boolean][] = [
  ['*', 'https://q.io', true],
  ['q.io', 'https://q.io', true],
  ['q.io', 'https://a.q.io', true],
  ['q.io', 'https://aq.io', false],
  ['Q.IO', 'https://q.io', true],
  ['q.io', 'https://q.io.', true],
  ['.q.io', 'https://q.io', false],
  ['.q.io', 'https://a.q.io', true],
  ['*.q.io', 'https://a.q.io', true],
  ['*.q.io', 'https://q.io', false],
  ['other, q.io', 'https://q.io', true],
  ['q.io:5000', 'https://q.io:5000', true],
  ['q.io:5000', 'https://q.io', false],
  ['q.io:443', 'https://q.io', true],
  ['10.0.0.0/8', 'https://10.1.2.3', true],
  ['10.0.0.0/8', 'https://11.1.2.3', false],
  ['10.0.0.0/8', 'https://q.io', false],
  ['10.1.2.3', 'https://10.1.2.3:5000', true],
  ['10.1.2.3:5000', 'https://10.1.2.3:5000', true],
  ['10.1.2.3:5000', 'https://10.1.2.3', false],
  ['fd00::/8', 'https://[fd12::1]:5000', true],
  ['fd12::1', 'https://[fd12:0::1]', true],
  ['[fd12::1]:5000', 'https://[fd12::1]:5000', true],
  ['[fd12::1]:5000', 'https://[fd12::1]', false],
  ['10.0.0.0/33,/,10.0.0.0/x', 'https://10.0.0.1', false],
  ['', 'https://q.io', false],
]
for (const [noProxy, url, isDirect] of exceptions) {
  test(`NO_PROXY=${noProxy} ${isDirect ? 'excepts' : 'does not except'} ${url}`, () => {
    assert.is(proxyFor(new URL(url), { ...SET, NO_PROXY: noProxy }) === undefined, isDirect)
  })
}

test('a proxy of another kind is refused by name, without its password', () => {
  assert.throws(
    () => proxyFor(new URL('https://q.io'), { HTTPS_PROXY: 'socks5://u:secret@p' }),
    (error: Error) => /socks5/.test(error.message) && !/secret/.test(error.message),
  )
  assert.throws(
    () => proxyFor(new URL('https://q.io'), { HTTPS_PROXY: 'http://u:secret@p:x' }),
    (error: Error) => /HTTPS_PROXY/.test(error.message) && !/secret/.test(error.message),
  )
})

test.run()
