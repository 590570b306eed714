/** CVE-2025-31133: /dev/null of the image is a link to what must be hidden. */
import { rmSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { bind, MOUNTS, Place, probe } from '../lib/inside.ts'
import { needs } from '../lib/needs.ts'
import { traces } from '../lib/traces.ts'

needs('root', 'overlay')

const place = new Place()
const clean = traces({ roots: [place.directory] })
const [PROC, , , SYS] = MOUNTS
const mounts = [PROC, SYS].filter((mount) => mount !== undefined)

symlinkSync('/proc/sys/kernel/core_pattern', join(place.lower, 'dev/null'))
symlinkSync('/proc/version', join(place.lower, 'alias'))

test('a masked file is covered by the host null device, whatever /dev/null of the image is', () => {
  const plain = { mounts, devices: [], links: [], maskedPaths: ['/proc/version'] }
  assert.equal(place.run({ ...plain, ...probe('cat', '/proc/version') }), {
    code: 0,
    out: '',
    err: '',
  })
  assert.match(place.run({ ...plain, ...probe('stat', '/proc/version') }).out, /char.* 1:3/)
})

test('a masked path that is a link covers what it leads to', () => {
  const plain = { mounts, devices: [], links: [], maskedPaths: ['/alias'] }
  assert.is(place.run({ ...plain, ...probe('cat', '/proc/version') }).out, '')
})

test('a device whose name is taken by a link is refused, not followed', () => {
  const ran = place.run({ ...probe('true'), mounts, links: [] })
  assert.is(ran.code, 125)
  assert.match(ran.err, /^device: \/dev\/null is there already as something else/)
})

test('/dev/console that is a link of the image is refused with a terminal', () => {
  rmSync(join(place.lower, 'dev/null'))
  symlinkSync('/etc/from-layer', join(place.lower, 'dev/console'))
  const devpts = MOUNTS.filter((mount) => mount.type === 'devpts' || mount.type === 'proc')
  const ran = place.run({ ...probe('true'), mounts: devpts, process: { terminal: true } })
  assert.is(ran.code, 125)
  assert.match(ran.err, /^terminal: \/dev\/console/)
})

test('a terminal needs a devpts at /dev/pts, nothing else will do', () => {
  const fake = place.make('fake')
  symlinkSync('/dev/null', join(fake, 'ptmx'))
  const without = MOUNTS.filter((mount) => mount.type !== 'devpts')
  const ran = place.run({
    ...probe('true'),
    mounts: [...without, bind(fake, '/dev/pts')],
    process: { terminal: true },
  })
  assert.is(ran.code, 125)
  assert.match(ran.err, /^terminal: /)
})

test('nothing is left behind', async () => {
  place.remove()
  await clean()
})

test.run()
