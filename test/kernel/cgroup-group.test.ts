import { spawn } from 'node:child_process'
import { once } from 'node:events'
import fs, {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Fault, isErrno } from '../../src/base/fault.ts'
import { readFileIfAny } from '../../src/base/file.ts'
import {
  cgroupHost,
  createGroup,
  freezeGroup,
  groupProcesses,
  groupStats,
  isFrozen,
  killGroup,
  removeGroup,
  removeParentIfEmpty,
  thawGroup,
  updateGroup,
  waitEmpty,
} from '../../src/cgroup/index.ts'
import { groupPids } from '../../src/engine/processes.ts'
import type { Resources } from '../../src/spec/runtime.ts'
import { inGroup } from '../lib/in-group.ts'
import { needing, needs } from '../lib/needs.ts'

needs('root', 'cgroup2')

const host = cgroupHost()
const PARENT = `/berth-test-${process.pid}`
const parentDirectory = join(host.root, PARENT)

test.after(async () => {
  await removeGroup(parentDirectory)
  assert.not(existsSync(parentDirectory))
})

let count = 0
const make = (resources: Resources = {}) =>
  createGroup(host, { parent: PARENT, name: `g${count++}`, resources })

const isFault =
  (code: string, message = /./) =>
  (error: unknown): boolean =>
    error instanceof Fault && error.code === code && message.test(error.message)

async function rejects(promise: Promise<unknown>, check: (error: unknown) => boolean) {
  try {
    await promise
  } catch (error) {
    assert.ok(check(error), String(error))
    return
  }
  assert.unreachable('it did not fail')
}

test('a group is made with its parents, empty, and removed', async () => {
  const group = await createGroup(host, { parent: `${PARENT}/a/b`, name: 'c', resources: {} })
  assert.is(group.path, `${PARENT}/a/b/c`)
  assert.equal(group.warnings, [])
  assert.equal(groupProcesses(group.directory), [])
  assert.is(removeParentIfEmpty(join(parentDirectory, 'a')), false)
  await removeGroup(group.directory)
  assert.not(existsSync(group.directory))
  assert.is(removeParentIfEmpty(join(parentDirectory, 'a/b')), true)
  assert.is(removeParentIfEmpty(join(parentDirectory, 'a')), true)
  assert.is(removeParentIfEmpty(join(parentDirectory, 'a')), false)
})

test('a second group of the same name is refused and the first kept', async () => {
  const group = await createGroup(host, { parent: PARENT, name: 'twice', resources: {} })
  await rejects(
    createGroup(host, { parent: PARENT, name: 'twice', resources: {} }),
    isFault('ALREADY_EXISTS'),
  )
  assert.ok(existsSync(group.directory))
  await removeGroup(group.directory)
})

test('everything of gone groups is no error, but freezing one', async () => {
  const gone = join(parentDirectory, 'gone')
  killGroup(gone)
  await thawGroup(gone)
  await removeGroup(gone)
  assert.is(await waitEmpty(gone), true)
  assert.is(isFrozen(gone), false)
  assert.equal(groupProcesses(gone), [])
  assert.is(groupStats(gone).cpu, undefined)
  await rejects(freezeGroup(gone), isFault('NOT_FOUND'))
  await rejects(updateGroup(gone, {}), isFault('NOT_FOUND'))
})

test('kill ends every process of the group and of those below, and removal waits for them', async () => {
  const { directory } = await make()
  mkdirSync(join(directory, 'inner'))
  const children = [
    await inGroup(directory, 'trap "" TERM INT; sleep 1000 & sleep 1000 & wait'),
    await inGroup(join(directory, 'inner'), 'sleep 1000'),
  ]
  const pids = groupProcesses(directory)
  for (const child of children) assert.ok(child.pid !== undefined && pids.includes(child.pid))
  await rejects(removeGroup(directory, 20), isFault('DEADLINE_EXCEEDED', /live in it/))
  const exits = children.map((child) => once(child, 'exit'))
  killGroup(directory)
  await removeGroup(directory)
  assert.not(existsSync(directory))
  for (const [, signal] of await Promise.all(exits)) assert.is(signal, 'SIGKILL')
})

test('a threaded group, which gives no list of its own, hides none of the processes and fails no look at them', async () => {
  const { directory } = await make()
  const child = await inGroup(directory, 'sleep 1000')
  const inner = join(directory, 'inner')
  mkdirSync(inner)
  writeFileSync(join(inner, 'cgroup.type'), 'threaded')
  assert.throws(() => readFileSync(join(inner, 'cgroup.procs')), /ENOTSUP/)
  writeFileSync(join(inner, 'cgroup.threads'), String(child.pid))
  assert.ok(groupPids(directory).includes(child.pid ?? 0))
  const exit = once(child, 'exit')
  killGroup(directory)
  await exit
  await removeGroup(directory)
})

test('a group that somebody else removes at the moment of its end is seen to be gone', async () => {
  // Not each time does the kernel lose the event.
  for (let i = 0; i < 8; i++) {
    const { directory } = await make()
    const child = spawn('sleep', ['1000'])
    const exit = once(child, 'exit')
    writeFileSync(join(directory, 'cgroup.procs'), String(child.pid))
    const begin = performance.now()
    const empty = waitEmpty(directory, 9000)
    // Without giving the wait a chance to look again.
    killGroup(directory)
    for (;;) {
      try {
        rmdirSync(directory)
        break
      } catch (error) {
        if (!isErrno(error, 'EBUSY')) throw error
      }
    }
    assert.is(await empty, true)
    assert.ok(performance.now() - begin < 8000)
    await exit
  }
})

test('a frozen group stands still, a thawed one goes on', async () => {
  const { directory } = await make()
  const child = await inGroup(directory, 'while read line; do echo "$line"; done')
  let said = ''
  child.stdout.on('data', (data) => {
    said += String(data)
  })
  await freezeGroup(directory)
  assert.is(isFrozen(directory), true)
  child.stdin.write('hello\n')
  // Its state is what the kernel has done with it, not what time has not yet shown.
  const used = groupStats(directory).cpu?.usageUs
  assert.is(groupStats(directory).cpu?.usageUs, used)
  assert.is(said, '')
  await thawGroup(directory)
  assert.is(isFrozen(directory), false)
  await once(child.stdout, 'data')
  assert.is(said, 'hello\n')
  await freezeGroup(directory)
  const exit = once(child, 'exit')
  killGroup(directory)
  assert.is((await exit)[1], 'SIGKILL', 'a frozen group is killed without thawing')
  await removeGroup(directory)
})

test('a group that cannot be frozen in time runs on', async () => {
  const { directory } = await make()
  // No time at all: the file is written and taken back.
  const child = await inGroup(directory, 'sleep 1000')
  try {
    await freezeGroup(directory, -1)
  } catch (error) {
    assert.ok(isFault('DEADLINE_EXCEEDED')(error))
    assert.match(readFileSync(join(directory, 'cgroup.freeze'), 'utf8'), /^0/)
  }
  await thawGroup(directory)
  const exit = once(child, 'exit')
  killGroup(directory)
  await exit
  await removeGroup(directory)
})

test('groups that a container nested deeper than any path are removed', async () => {
  const { directory } = await make()
  const here = process.cwd()
  try {
    process.chdir(directory)
    for (let i = 0; i < 40; i++) {
      mkdirSync('d'.repeat(200))
      mkdirSync(`sibling${i}`)
      process.chdir('d'.repeat(200))
    }
  } finally {
    process.chdir(here)
  }
  await removeGroup(directory)
  assert.not(existsSync(directory))
})

test('makers and removers of one parent do not disturb each other', async () => {
  const parent = `${PARENT}/shared`
  const worker = async (id: number): Promise<void> => {
    for (let i = 0; i < 25; i++) {
      const group = await createGroup(host, { parent, name: `w${id}-${i}`, resources: {} })
      await removeGroup(group.directory)
      removeParentIfEmpty(join(host.root, parent))
    }
  }
  await Promise.all([0, 1, 2, 3].map(worker))
  assert.not(existsSync(join(host.root, parent)))
})

test('a limit without its controller is refused by option and controller, and no group is left', async () => {
  const missing = (['memory', 'pids', 'cpuset', 'rdma'] as const).find(
    (name) => !host.controllers.includes(name),
  )
  if (missing === undefined) return
  const resources: Record<typeof missing, Resources> = {
    memory: { memory: { limit: 1 << 26 } },
    pids: { pids: { limit: 5 } },
    cpuset: { cpu: { cpus: '0' } },
    rdma: { rdma: { mlx: { hcaHandles: 1 } } },
  }
  await rejects(
    createGroup(host, { parent: PARENT, name: 'limited', resources: resources[missing] }),
    isFault('FAILED_PRECONDITION', new RegExp(`resources\\.\\w+.*"${missing}"`)),
  )
  assert.not(existsSync(join(parentDirectory, 'limited')))
})

test('a weight without its controller is a warning', async () => {
  if (host.controllers.includes('cpu')) return
  const group = await make({ cpu: { shares: 512 }, memory: { reservation: 1 << 20 } })
  assert.ok(group.warnings.some((warning) => /cpu\.shares.*"cpu"/.test(warning)))
  await removeGroup(group.directory)
})

/** A page size of this machine as cgroup's files name it. */
function anyPageSize(): string {
  const [name = ''] = readdirSync('/sys/kernel/mm/hugepages')
  const kib = Number(/\d+/.exec(name)?.[0])
  return kib >= 1 << 20 ? `${kib >> 20}GB` : kib >= 1024 ? `${kib >> 10}MB` : `${kib}KB`
}

const hugetlb = needing(test, 'cgroup:hugetlb', 'file:/sys/kernel/mm/hugepages')

hugetlb(
  'a huge page limit is written, updated, and restored where a later write fails',
  async () => {
    const pageSize = anyPageSize()
    const limits = (limit: number): Resources => ({ hugepageLimits: [{ pageSize, limit }] })
    const { directory } = await make(limits(4 * 2 ** 30))
    const read = (): string =>
      readFileSync(join(directory, `hugetlb.${pageSize}.max`), 'utf8').trim()
    assert.is(read(), String(4 * 2 ** 30))
    await updateGroup(directory, limits(2 ** 30))
    assert.is(read(), String(2 ** 30))
    await rejects(
      updateGroup(directory, {
        ...limits(0),
        unified: { [`hugetlb.${pageSize}.rsvd.max`]: 'no number' },
      }),
      isFault('INVALID_ARGUMENT', /refuses "no number"/),
    )
    assert.is(read(), String(2 ** 30))
    assert.is(
      groupStats(directory).hugepages.find((h) => h.pageSize === pageSize)?.maxBytes,
      2n ** 30n,
    )
    await removeGroup(directory)
  },
)

hugetlb('a raw file that does not exist is an error', async () => {
  await rejects(
    make({ unified: { 'hugetlb.3MB.max': '1' } }),
    isFault('FAILED_PRECONDITION', /hugetlb/),
  )
})

test('a raw limit of the core is written', async () => {
  const { directory } = await make({ unified: { 'cgroup.max.descendants': '0' } })
  assert.throws(
    () => mkdirSync(join(directory, 'x')),
    (e: unknown) => isErrno(e, 'EAGAIN'),
  )
  await removeGroup(directory)
})

test('files of preference are written where they are and skipped where not', async () => {
  const group = await createGroup(host, {
    parent: PARENT,
    name: 'preferred',
    resources: {},
    preferred: { 'cgroup.max.depth': '3', 'no.such.file': '1' },
  })
  assert.is(readFileSync(join(group.directory, 'cgroup.max.depth'), 'utf8'), '3\n')
  await removeGroup(group.directory)
})

test('statistics of a living group count its time', async () => {
  const { directory } = await make()
  const child = await inGroup(directory, 'i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done')
  await once(child, 'exit')
  assert.ok((groupStats(directory).cpu?.usageUs ?? 0n) > 0n)
  await removeGroup(directory)
})

test('a file of a group that is removed between open and read is one that is not there', async () => {
  const { directory } = await make()
  const file = join(directory, 'cgroup.freeze')
  const real = fs.readFileSync
  // The real call in its two halves, with the end of the group between them.
  fs.readFileSync = ((path: string, encoding: BufferEncoding) => {
    const fd = openSync(path, 'r')
    try {
      rmdirSync(directory)
      return real(fd, encoding)
    } finally {
      closeSync(fd)
    }
  }) as typeof real
  syncBuiltinESMExports()
  try {
    assert.is(readFileIfAny(file), undefined)
  } finally {
    fs.readFileSync = real
    syncBuiltinESMExports()
  }
})

test.run()
