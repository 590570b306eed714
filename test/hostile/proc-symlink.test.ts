/** CVE-2019-16884, CVE-2023-27561, CVE-2026-41579, CVE-2026-47766: an image that fakes /proc, /sys or /dev. */
import { readdirSync, rmdirSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { bind, fresh, MOUNTS, Place, probe } from '../lib/inside.ts'
import { needs } from '../lib/needs.ts'
import { traces } from '../lib/traces.ts'

needs('root', 'overlay')

const place = new Place()
const clean = traces({ roots: [place.directory] })

for (const name of ['proc', 'sys', 'dev']) {
  test(`an image whose /${name} is a link is refused, and where it leads stays untouched`, () => {
    const image = new Place()
    const outside = image.make('outside')
    rmdirSync(join(image.lower, name))
    symlinkSync(outside, join(image.lower, name))
    const ran = image.run(probe('true'))
    assert.is(ran.code, 125)
    assert.match(ran.err, new RegExp(`^root: refused: /${name} in the image is no directory`))
    assert.equal(readdirSync(outside), [])
    image.remove()
  })
}

const volume = place.make('volume')
symlinkSync('/proc', join(place.lower, 'alias'))
symlinkSync('/proc/self/attr', join(place.lower, 'labels'))

for (const target of ['/proc', '/proc/', '/x/../proc', '/proc/self/attr', '/proc/sys']) {
  test(`a directory of the host cannot cover ${target}`, () => {
    for (const mount of [bind(volume, target), fresh('tmpfs', target)]) {
      const ran = place.run({ ...probe('true'), mounts: [...MOUNTS, mount] })
      assert.is(ran.code, 125)
      assert.match(ran.err, /^mount: refused to mount at \/proc/)
    }
  })
}

for (const target of ['/alias/sys', '/labels', '/alias']) {
  test(`a mount at ${target}, a link into /proc, is refused`, () => {
    const ran = place.run({ ...probe('true'), mounts: [...MOUNTS, bind(volume, target)] })
    assert.is(ran.code, 125)
    assert.match(ran.err, /^mount: refused to mount at .*: it leads into \/proc/)
  })
}

test('the host procfs may be bound at /proc where the container has no pid namespace', () => {
  const mounts = [bind('/proc', '/proc'), ...MOUNTS.slice(1)]
  const namespaces = (['mount', 'network', 'ipc', 'uts'] as const).map((type) => ({ type }))
  const ran = place.run({ ...probe('readlink', '/proc/self/ns/mnt'), mounts, namespaces })
  assert.is(ran.code, 0, ran.err)
})

test('nothing is left behind', async () => {
  place.remove()
  await clean()
})

test.run()
