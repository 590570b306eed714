import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { findHierarchy } from '../../../src/cgroup/host.ts'

const V1 = '33 24 0:28 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu'
const UNIFIED = '41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate'
const PURE = '30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw'

const TABLE: [string, string[], ReturnType<typeof findHierarchy>][] = [
  ['no cgroup v2 is told', [V1], undefined],
  ['a pure host', [PURE], { root: '/sys/fs/cgroup', writable: true, hybrid: false }],
  [
    'a hybrid host',
    [V1, UNIFIED],
    { root: '/sys/fs/cgroup/unified', writable: true, hybrid: true },
  ],
  [
    'the usual place wins',
    [UNIFIED, PURE],
    { root: '/sys/fs/cgroup', writable: true, hybrid: false },
  ],
  [
    'the upper of two mounts at one place counts',
    [PURE, PURE.replace(' rw,nosuid', ' ro,nosuid')],
    { root: '/sys/fs/cgroup', writable: false, hybrid: false },
  ],
  [
    'a read-only file system is not writable',
    [PURE.replace(/rw$/, 'ro')],
    { root: '/sys/fs/cgroup', writable: false, hybrid: false },
  ],
  [
    "a place of somebody's choice, with a space",
    [PURE.replace('/sys/fs/cgroup', '/mnt/my\\040cgroup')],
    { root: '/mnt/my cgroup', writable: true, hybrid: false },
  ],
]

for (const [claim, lines, expected] of TABLE) {
  test(claim, () => assert.equal(findHierarchy(`${lines.join('\n')}\n`), expected))
}

test.run()
