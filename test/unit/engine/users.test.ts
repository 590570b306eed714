import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { resolveUser } from '../../../src/engine/users.ts'

const PASSWD = `root:x:0:0:root:/root:/bin/sh
# comment
user:x:1000:1001:a user:/home/user:/bin/sh
5:x:77:78::/five:/bin/sh
short:x:9:9
nohome:x:10:10::relative:/bin/sh
twice:x:11:11::/first:
twice:x:12:12::/second:

broken
`
const GROUP =
  'root:x:0:\nwheel:x:10:root,user\nextra:x:20:user\nuser:x:1001:user\nbig:x:4294967295:\n'
const resolve = (user: string, extra: string[] = []) => resolveUser(user, PASSWD, GROUP, extra)
const ids = (user: string, extra: string[] = []) => {
  const { uid, gid, groups } = resolve(user, extra)
  return [uid, gid, [...groups]]
}

const CASES: [claim: string, user: string, expect: unknown][] = [
  ['nobody asked for is root, with its groups', '', [0, 0, [10]]],
  ['a name has its group and those that list it', 'user', [1000, 1001, [10, 20]]],
  ['a listed number is that user', '1000', [1000, 1001, [10, 20]]],
  ['a number that is not listed is in group 0', '4242', [4242, 0, []]],
  ['a group given is the only one', 'user:extra', [1000, 20, []]],
  ['a group may be a number', '4242:4343', [4242, 4343, []]],
  ['a name of digits is a number (CVE-2024-40635)', '5', [5, 0, []]],
  ['of two rows with one name the first counts', 'twice', [11, 11, []]],
  ['a row without home is good for ids', 'short', [9, 9, []]],
  ['the largest id is taken', '4294967294:4294967294', [4294967294, 4294967294, []]],
]
for (const [claim, user, expect] of CASES) test(claim, () => assert.equal(ids(user), expect))

test('further groups come along, each once, the first group not again', () => {
  assert.equal(ids('user', ['extra', '30', '30', 'user']), [1000, 1001, [10, 20, 30]])
})

const REFUSED: [user: string, says: RegExp][] = [
  ['nosuch', /no user "nosuch"/],
  ['user:nosuch', /no group "nosuch"/],
  ['4294967295', /out of the range/],
  ['4294967296', /out of the range/],
  ['18446744073709551616', /out of the range/],
  ['-1', /out of the range/],
  ['0:-1', /out of the range/],
  ['user:big', /out of the range/],
  [':', /empty/],
  ['user:', /empty/],
  [':user', /empty/],
  ['a:b:c', /more than one colon/],
]
for (const [user, says] of REFUSED) {
  test(`"${user}" is refused`, () => assert.throws(() => resolve(user), says))
}

test('a home that is no absolute path of one line is /', () => {
  assert.is(resolve('user').home, '/home/user')
  assert.is(resolve('nohome').home, '/')
  assert.is(resolve('4242').home, '/')
  assert.is(resolveUser('x', 'x:x:1:1::/a\r:', '').home, '/')
})

test('a root without account files has root and numbers only', () => {
  assert.is(resolveUser('', '', '').uid, 0)
  assert.is(resolveUser('7', '', '').uid, 7)
  assert.throws(() => resolveUser('root', '', ''), /no user "root"/)
})

test.run()
