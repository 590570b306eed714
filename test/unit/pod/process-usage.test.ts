import { spawn } from 'node:child_process'
import { closeSync, openSync, readdirSync, statSync } from 'node:fs'
import { createServer } from 'node:net'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { isErrno } from '../../../src/base/fault.ts'
import {
  addFaults,
  addStatus,
  openFiles,
  openFilesLimit,
  type ProcessUsage,
  processUsage,
} from '../../../src/pod/process-usage.ts'

const MIB = 1024n * 1024n
const nothing = (): ProcessUsage => processUsage([])

test('status gives threads and memory, in bytes', () => {
  const usage = nothing()
  const text = `Name:\tThreads:\t99
VmPTE:\t     100 kB
VmSwap:\t       7 kB
RssAnon:\t    1000 kB
RssFile:\t      20 kB
RssShmem:\t       3 kB
Threads:\t4
`
  addStatus(usage, text)
  addStatus(usage, text)
  assert.equal(
    [usage.threads, usage.anonBytes, usage.fileBytes, usage.swapBytes, usage.pageTableBytes],
    [8n, 2_048_000n, 47_104n, 14_336n, 204_800n],
  )
})

test('a process without memory counts as a thread', () => {
  const usage = nothing()
  addStatus(usage, 'Name:\tx\nState:\tZ (zombie)\nThreads:\t1\n')
  assert.equal(usage, { ...nothing(), threads: 1n })
})

test('faults are those of the process and of its ended children, whatever its name is', () => {
  const usage = nothing()
  addFaults(usage, '12 (a) R 1 ) S 1 12 12 0 -1 4194304 100 20 3 4 0 0')
  assert.equal([usage.pageFaults, usage.majorPageFaults], [127n, 7n])
})

test('files and sockets of a living process are counted', async () => {
  const before = openFiles([process.pid])
  const open = readdirSync('/proc/self/fd').length
  const files = Array.from({ length: 10 }, () => openSync('/dev/null', 'r'))
  const server = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  try {
    const after = openFiles([process.pid])
    assert.is(after.descriptors - before.descriptors, 11n)
    assert.is(after.sockets - before.sockets, 1n)
    // A look at it opens the directory.
    assert.ok(Math.abs(Number(before.descriptors) - open) <= 1)
  } finally {
    server.close()
    for (const fd of files) closeSync(fd)
  }
})

test('more open files than are looked at are counted by the kernel', () => {
  const wanted = 16_384 + 100
  const files: number[] = []
  try {
    // The limit of this process may be lower: then there is nothing to see.
    while (files.length < wanted) files.push(openSync('/dev/null', 'r'))
  } catch (error) {
    if (!isErrno(error, 'EMFILE')) throw error
  }
  try {
    const { descriptors } = openFiles([process.pid, process.pid])
    const told = 2 * files.length
    const isTold = statSync('/proc/self/fd').size > 0
    assert.ok(descriptors >= BigInt(isTold ? told : Math.min(told, 16_384)), String(descriptors))
  } finally {
    for (const fd of files) closeSync(fd)
  }
})

test('memory, threads and faults of a living process are told', () => {
  const usage = processUsage([process.pid])
  assert.ok(usage.anonBytes > MIB && usage.fileBytes > MIB && usage.pageTableBytes > 0n)
  assert.ok(usage.threads > 1n && usage.pageFaults > 0n)
})

test('a process that has ended counts for nothing', async () => {
  const child = spawn('/bin/true')
  await new Promise((resolve) => child.once('close', resolve))
  const pid = child.pid ?? 0
  assert.equal(processUsage([pid]), nothing())
  assert.equal(openFiles([pid]), { descriptors: 0n, sockets: 0n })
  assert.is(openFilesLimit(pid), undefined)
  assert.ok((openFilesLimit(process.pid) ?? 0n) > 0n)
})

test.run()
