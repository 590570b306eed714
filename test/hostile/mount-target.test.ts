/** CVE-2018-15664, CVE-2019-18837, CVE-2021-30465: links of the image at the targets of mounts. */
import { existsSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { bind, fresh, MOUNTS, Place, probe } from '../lib/inside.ts'
import { needs } from '../lib/needs.ts'
import { traces } from '../lib/traces.ts'

needs('root', 'overlay')

const place = new Place()
const clean = traces({ roots: [place.directory] })
const outside = place.make('outside')
const volume = place.make('volume')
writeFileSync(join(volume, 'mark'), 'volume\n')

const links: [name: string, to: string][] = [
  ['absolute', outside],
  ['relative', `../../../../../../../../..${outside}`],
  ['dangling', join(outside, 'new/deeper')],
  ['chain', '/dangling'],
]
for (const [name, to] of links) symlinkSync(to, join(place.lower, name))
symlinkSync('/loop', join(place.lower, 'loop'))

for (const [name] of links) {
  for (const target of [`/${name}`, `/${name}/below/deep`]) {
    test(`a mount at ${target} stays in the container and makes nothing on the host`, () => {
      const ran = place.run({
        ...probe('cat', `${target}/mark`),
        mounts: [...MOUNTS, bind(volume, target)],
      })
      assert.equal(ran, { code: 0, out: 'volume\n', err: '' })
      assert.equal(readdirSync(outside), [])
      place.reset()
    })
  }
}

test('a file bound over a dangling link is made in the container', () => {
  const ran = place.run({
    ...probe('cat', '/dangling'),
    mounts: [...MOUNTS, bind(join(volume, 'mark'), '/dangling')],
  })
  assert.is(ran.out, 'volume\n', ran.err)
  assert.equal(readdirSync(outside), [])
  place.reset()
})

test('a target with too many links is refused', () => {
  const ran = place.run({ ...probe('true'), mounts: [...MOUNTS, fresh('tmpfs', '/loop/x')] })
  assert.is(ran.code, 125)
  assert.match(ran.err, /^mount: target \/loop\/x: Too many levels of symbolic links/)
})

test('a target with .. is below the root', () => {
  const ran = place.run({
    ...probe('cat', '/up/mark'),
    mounts: [...MOUNTS, bind(volume, '/../../../up')],
  })
  assert.is(ran.out, 'volume\n', ran.err)
  assert.not(existsSync('/up'))
  place.reset()
})

test('devices and links whose directory is a link are made in the container', () => {
  const ran = place.run({
    ...probe('stat', join(outside, 'node')),
    devices: [
      { target: '/absolute/node', type: 'c', major: 1, minor: 3, mode: 0o666, uid: 0, gid: 0 },
    ],
    links: [{ target: '/relative/link', to: '/proc' }],
  })
  assert.match(ran.out, /char/, ran.err)
  assert.equal(readdirSync(outside), [])
  place.reset()
})

test('a mount at / is refused', () => {
  const ran = place.run({ ...probe('true'), mounts: [fresh('tmpfs', '/')] })
  assert.is(ran.code, 125)
})

test('a source that is gone between plan and run leaves no trace', () => {
  mkdirSync(place.path('gone'))
  const ran = place.run({
    ...probe('true'),
    mounts: [...MOUNTS, bind(place.path('gone/not'), '/never')],
  })
  assert.is(ran.code, 125)
  assert.not(existsSync(place.path('upper/never')))
})

test('nothing is left behind', async () => {
  place.remove()
  await clean()
})

test.run()
