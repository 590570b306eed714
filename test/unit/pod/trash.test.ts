import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { Node } from '../../../src/pod/node.ts'
import { discard, emptyTrash } from '../../../src/pod/trash.ts'

const LEFT = 100

test('what many removals have left goes, and a removal does not wait for it', async () => {
  const root = mkdtempSync(join(tmpdir(), 'berth-trash-'))
  try {
    const trash = join(root, 'pod-trash')
    for (let i = 0; i < LEFT; i++) mkdirSync(join(trash, `${i}/upper`), { recursive: true })
    const own = join(root, 'own')
    mkdirSync(own)
    writeFileSync(join(own, 'file'), '')
    const removals = new Set<Promise<void>>()
    const node = { at: { trash }, removals, warn: assert.unreachable } as unknown as Node
    emptyTrash(node)
    await discard(node, own, new Set())
    assert.ok(readdirSync(trash).length > LEFT / 2, 'it did not wait')
    await Promise.all(removals)
    assert.equal(readdirSync(root), ['pod-trash'])
    assert.equal(readdirSync(trash), [])
    assert.is(removals.size, 0)
  } finally {
    rmSync(root, { recursive: true, force: true })
  }
})

test.run()
