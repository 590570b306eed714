import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { checkPodUser, containerUser } from '../../../src/pod/user.ts'
import type { LinuxContainerSecurityContext } from '../../../src/spec/cri.ts'
import { refused, security } from './config.ts'

const FILES = {
  passwd: 'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1001::/home/user:/bin/sh\nbad:x:7:y::/:\n',
  group: 'root:x:0:\nwheel:x:10:root\nmedia:x:50000:user\nuser:x:1001:\n',
}
type Change = Partial<LinuxContainerSecurityContext>
const user = (change: Change | null, image = '') =>
  containerUser(change && security(change), image, FILES)
const value = (text: string) => ({ value: text })

const CASES: [claim: string, change: Change | null, image: string, expect: unknown][] = [
  ['nobody asked for is root, with its groups', {}, '', [0, 0, [0, 10]]],
  ['the image’s user where the client names none', {}, 'user', [1000, 1001, [1001, 50000]]],
  ['also without a security context', null, 'user', [1000, 1001, [1001, 50000]]],
  ['the image’s user and group', {}, '5:6', [5, 6, [6]]],
  [
    'the client’s user before the image’s',
    { runAsUser: value('1000') },
    '5',
    [1000, 1001, [1001, 50000]],
  ],
  ['one that is not listed is in group 0', { runAsUser: value('4242') }, '', [4242, 0, [0]]],
  ['a name', { runAsUsername: 'user' }, '', [1000, 1001, [1001, 50000]]],
  [
    'a group of the client’s, and the image’s groups with it',
    { runAsUser: value('1000'), runAsGroup: value('3000'), supplementalGroups: ['4000'] },
    '',
    [1000, 3000, [3000, 50000, 4000]],
  ],
  [
    'Strict: only what is asked for',
    {
      runAsUser: value('1000'),
      supplementalGroups: ['1234', '1234'],
      supplementalGroupsPolicy: 'Strict',
    },
    '',
    [1000, 1001, [1001, 1234]],
  ],
]
for (const [claim, change, image, expect] of CASES) {
  test(claim, () => {
    const { uid, gid, groups } = user(change, image)
    assert.equal([uid, gid, groups], expect)
  })
}

test('home is the account’s', () => {
  assert.is(user({ runAsUsername: 'user' }).home, '/home/user')
  assert.is(user({ runAsUser: value('4242') }).home, '/')
})

const REFUSED: [claim: string, change: Change, image: string, message: RegExp][] = [
  ['a group without a user', { runAsGroup: value('1') }, '', /run_as_group: needs run_as_user/],
  ['both a number and a name', { runAsUser: value('1'), runAsUsername: 'user' }, '', /run_as_user/],
  ['a negative user', { runAsUser: value('-1') }, '', /run_as_user: "-1"/],
  ['a user beyond 32 bits (CVE-2024-40635)', { runAsUser: value('4294967296') }, '', /run_as_user/],
  ['a user that is no number', { runAsUser: value('root') }, '', /run_as_user/],
  ['the id that means no change', { runAsUser: value('4294967295') }, '', /run_as_user/],
  ['a group out of range', { runAsUser: value('1'), runAsGroup: value('-2') }, '', /run_as_group/],
  [
    'a further group out of range',
    { supplementalGroups: ['1', '99999999999'] },
    '',
    /supplemental_groups\[1\]/,
  ],
  ['a name with a group', { runAsUsername: 'user:0' }, '', /run_as_username: "user:0"/],
  ['a name with a NUL', { runAsUsername: 'us\0er' }, '', /run_as_username: holds a NUL/],
  ['a long name', { runAsUsername: 'x'.repeat(300) }, '', /run_as_username: is longer/],
  ['an image’s user out of range (CVE-2026-46680)', {}, '2147483648000', /image's USER/],
  ['a listed user with a broken group', { runAsUsername: 'bad' }, '', /run_as_username/],
  ['an unknown policy', { supplementalGroupsPolicy: 7 as never }, '', /supplemental_groups_policy/],
]
for (const [claim, change, image, message] of REFUSED) {
  test(`refused: ${claim}`, () => refused(() => user(change, image), 'INVALID_ARGUMENT', message))
}

test('a name must be listed, a number given as one too', () => {
  for (const runAsUsername of ['nobody', '4242']) {
    refused(() => user({ runAsUsername }), 'NOT_FOUND', /run_as_username/)
  }
  refused(() => user({}, 'nobody'), 'NOT_FOUND', /image's USER.*nobody/)
})

test('more groups than the kernel takes are refused', () =>
  refused(
    () => user({ supplementalGroups: Array.from({ length: 65537 }, (_, i) => String(i)) }),
    'INVALID_ARGUMENT',
    /supplemental_groups: has more than/,
  ))

test('a pod’s own user is looked at, too', () => {
  checkPodUser(null)
  checkPodUser({ runAsUser: value('1'), runAsGroup: value('2'), supplementalGroups: ['3'] })
  const bad = { runAsUser: null, runAsGroup: value('2'), supplementalGroups: [] }
  refused(() => checkPodUser(bad), 'INVALID_ARGUMENT', /run_as_group/)
})

test.run()
