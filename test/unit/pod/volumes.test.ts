import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { imageVolumes } from '../../../src/pod/volumes.ts'
import { mount, refused } from './config.ts'

const volumes = (names: string[], ...covered: string[]) =>
  imageVolumes(
    { Volumes: Object.fromEntries(names.map((name) => [name, {}])) },
    { mounts: covered.map((containerPath) => mount({ containerPath })) },
  )

test('an image without volumes has none', () => {
  assert.equal(imageVolumes(undefined, { mounts: [] }), [])
  assert.equal(imageVolumes({}, { mounts: [] }), [])
})

test('each place once, but for those that the client mounts over', () =>
  assert.equal(volumes(['/data/', 'data', '/logs', '/db'], '/logs/', '/data/sub'), [
    '/data',
    '/db',
  ]))

test('a path that climbs stays below the root (CVE-2022-23648)', () =>
  assert.equal(volumes(['/../../etc', '../x']), ['/etc', '/x']))

test('hostile volumes are refused', () => {
  const invalid = (act: () => unknown) => refused(act, 'INVALID_ARGUMENT', /image's Volumes/)
  invalid(() => volumes(['/']))
  invalid(() => volumes(['/..']))
  invalid(() => volumes(['/a\0']))
  invalid(() => volumes(Array.from({ length: 129 }, (_, i) => `/${i}`)))
})

test.run()
