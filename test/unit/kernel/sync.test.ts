import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { binding } from '../../../src/kernel/binding.ts'
import { syncDirectoryTogether, syncTogether } from '../../../src/kernel/sync.ts'

const directory = mkdtempSync(join(tmpdir(), 'berth-sync-'))
const addon = binding as { syncfs: (fd: number) => Promise<void> }
const real = addon.syncfs

/** Does `act` with what comes before each real syncfs; how many there were. */
async function counting(act: () => Promise<unknown>, before = async () => {}): Promise<number> {
  let count = 0
  addon.syncfs = async (fd) => {
    count++
    await before()
    await real(fd)
  }
  try {
    await act()
  } finally {
    addon.syncfs = real
  }
  return count
}

test('those who come together share one syncfs', async () => {
  const many = () => Promise.all(Array.from({ length: 20 }, () => syncTogether(directory)))
  assert.is(await counting(many), 1)
  assert.is(await counting(many), 1)
})

test('who comes while one is under way may have written since, and gets the next', async () => {
  const late: Promise<void>[] = []
  const act = async (): Promise<void> => {
    await syncTogether(directory)
    assert.is(late.length, 2)
    await Promise.all(late)
  }
  const come = async (): Promise<void> => {
    if (late.length < 2) late.push(syncTogether(directory), syncTogether(directory))
  }
  assert.is(await counting(act, come), 2)
})

test('a failure is told to all who share it, and not to the next', async () => {
  const act = async (): Promise<void> => {
    const results = await Promise.allSettled([syncTogether(directory), syncTogether(directory)])
    for (const result of results) assert.is(result.status, 'rejected')
  }
  await counting(act, () => Promise.reject(new Error('the disk is broken')))
  assert.is(await counting(() => syncTogether(directory)), 1)
})

test('directories are synced, and one that is not there is said', async () => {
  await Promise.all([syncDirectoryTogether(directory), syncDirectoryTogether(directory)])
  const [missing] = await Promise.allSettled([syncDirectoryTogether(join(directory, 'missing'))])
  assert.match(String(missing?.status === 'rejected' && missing.reason), /ENOENT/)
})

test.after(() => rmSync(directory, { recursive: true }))
test.run()
