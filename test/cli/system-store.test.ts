/** `system check` and `system df` as a user sees them. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { berthOfFile } from '../lib/berth.ts'
import { needs } from '../lib/needs.ts'

needs('root', 'overlay', 'cgroup2')

const { berth, nothingIsLeft } = berthOfFile()
const check = (...more: string[]) => berth.run(['system', 'check', '-q', ...more])

test('check: all is well; damage in use stays and is told, then it is repaired', async () => {
  await berth.ok(['create', '--name', 'user', '--net', 'none', 'hello', 'true'])
  const good = await check()
  assert.is(good.code, 0, good.stderr)
  assert.match(good.stdout, /^checked 1 images, 3 blobs, 1 layers: all is well\n$/)
  const [image] = JSON.parse(await berth.ok(['image', 'inspect', 'hello']))
  const diffId = String(image.config.rootfs.diff_ids[0]).slice(7)
  const file = join(berth.root, 'layers/sha256', diffId, 'tree/etc/passwd')
  const before = readFileSync(file)
  writeFileSync(file, 'changed')
  const found = await check('--format', 'json')
  assert.is(found.code, 1)
  const { damage } = JSON.parse(found.stdout)
  assert.equal([damage.length, damage[0].damage.kind, damage[0].damage.hex], [1, 'layer', diffId])
  const left = await check('--repair')
  assert.is(left.code, 1)
  assert.match(left.stdout, /damaged: layer .* \(a container uses it: remove the container first\)/)
  await berth.ok(['rm', 'user'])
  const repaired = await check('--repair')
  assert.is(repaired.code, 0, repaired.stdout)
  assert.match(repaired.stdout, /repaired: layer .* \(unpacked again\)\n.*: 1 damaged\n$/)
  assert.ok(readFileSync(file).equals(before))
  assert.is((await check()).code, 0)
  await berth.refused(['system', 'check', '--pull'], /--pull is part of a repair/)
})

test('nothing is left behind', nothingIsLeft)

test.run()
