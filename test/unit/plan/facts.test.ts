import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { cgroup2, hardLimits } from '../../../src/plan/facts.ts'
import { hostFacts, namespacesOfHost } from '../../../src/plan/index.ts'
import { RLIM_INFINITY } from '../../../src/spec/linux.ts'
import { spec } from './facts.ts'

const V1 = '33 24 0:29 / /sys/fs/cgroup/cpu rw,nosuid - cgroup cgroup rw,cpu'
const mount = (path: string, options: string): string =>
  `35 24 0:30 / ${path} rw,nosuid,nodev shared:4 - cgroup2 cgroup2 ${options}`

test('the cgroup v2 mount is found with the options that are not its access', () => {
  const line = mount('/sys/fs/cgroup', 'rw,nsdelegate,memory_recursiveprot')
  assert.equal(cgroup2([V1, line, ''].join('\n')), {
    path: '/sys/fs/cgroup',
    options: ['nsdelegate', 'memory_recursiveprot'],
  })
})

test('of several cgroup v2 mounts the outermost counts, and v1 is none', () => {
  const lines = [mount('/sys/fs/cgroup/unified', 'rw'), mount('/run/somewhere/deep/cgroup', 'rw')]
  assert.is(cgroup2(lines.join('\n'))?.path, '/sys/fs/cgroup/unified')
  assert.is(cgroup2(V1), undefined)
})

test('hard limits are read by their names', () => {
  const limits = hardLimits(
    [
      'Limit                     Soft Limit           Hard Limit           Units     ',
      'Max cpu time              unlimited            unlimited            seconds   ',
      'Max open files            1024                 524288               files     ',
      'Max nice priority         0                    0                    ',
      '',
    ].join('\n'),
  )
  assert.equal(
    [...limits],
    [
      [0, RLIM_INFINITY],
      [7, 524288n],
      [13, 0n],
    ],
  )
})

test('every limit of this kernel is known', () => {
  assert.equal(
    [...hostFacts().hardLimits.keys()].sort((a, b) => a - b),
    [...Array(16).keys()],
  )
})

test("a path to one's own namespace is the host's, others and missing ones are not", () => {
  const namespaces = [
    { type: 'mount' },
    { type: 'network', path: '/proc/self/ns/net' },
    { type: 'uts', path: '/proc/self/ns/ipc' },
    { type: 'ipc', path: '/nowhere' },
    { type: 'toString', path: '/proc/self/ns/net' },
  ]
  assert.equal([...namespacesOfHost(spec({ linux: { namespaces } }))], ['network'])
})

test.run()
