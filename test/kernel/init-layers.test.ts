/** Views of layers as mounts of a container: how an image is a volume of another. */
import { chmodSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { MountPlan } from '../../src/spec/plan.ts'
import { ATTRIBUTE, bind, ID_MAPPINGS, MOUNTS, NEW, Place, probe } from '../lib/inside.ts'
import { needs } from '../lib/needs.ts'
import { traces } from '../lib/traces.ts'

needs('root', 'overlay')

const place = new Place()
const clean = traces({ roots: [place.directory] })
const USER = {
  namespaces: [...NEW, 'user' as const].map((type) => ({ type })),
  idMappings: ID_MAPPINGS,
}
const LAYERS = 130

const lower: string[] = []
for (let i = 0; i < LAYERS; i++) {
  const directory = place.make(`layers/${String(i).padStart(3, '0')}`)
  mkdirSync(join(directory, 'sub'))
  writeFileSync(join(directory, 'topmost'), `${i}\n`)
  writeFileSync(join(directory, 'sub', `file-${i}`), `${i}\n`)
  lower.unshift(directory)
}
symlinkSync('/sub', join(lower[0] ?? '', 'inside'))
symlinkSync('/etc', join(lower[0] ?? '', 'outside'))
symlinkSync('../../../../../../etc', join(lower[0] ?? '', 'climbing'))
// What root alone may read, so that ids count.
chmodSync(join(lower[0] ?? '', 'topmost'), 0o600)
// As berth's own directories are: a user namespace finds no way through.
chmodSync(place.directory, 0o700)

const view = (source: string, more: Partial<MountPlan> = {}): { mounts: MountPlan[] } => ({
  mounts: [
    ...MOUNTS,
    bind(source, '/view', {
      lower,
      recursive: false,
      setAttributes: ATTRIBUTE.readonly,
      ...more,
    }),
  ],
})

for (const [what, given] of [
  ['of the host’s users', {}],
  ['of users of its own', USER],
] as const) {
  test(`a container ${what} sees ${LAYERS} layers as one tree`, () => {
    const ran = place.run({
      ...given,
      ...view('/'),
      ...probe('cat', '/view/topmost', '/view/sub/file-0', '/view/sub/file-129'),
    })
    assert.equal(ran, { code: 0, out: '129\n0\n129\n', err: '' })
    place.reset()
  })

  test(`a container ${what} sees a path of them, through links inside`, () => {
    for (const source of ['/sub', '/inside']) {
      const ran = place.run({
        ...given,
        ...view(source),
        ...probe('cat', '/view/file-0', '/view/file-129'),
      })
      assert.equal(ran, { code: 0, out: '0\n129\n', err: '' })
      place.reset()
    }
  })

  test(`a container ${what} may not write there`, () => {
    for (const source of ['/', '/sub']) {
      const ran = place.run({ ...given, ...view(source), ...probe('write-file', '/view/x', 'x') })
      assert.match(ran.err, /EROFS/)
      place.reset()
    }
  })
}

test('one layer alone is a view, too, and a file of it', () => {
  const only = lower.slice(-1)
  const ran = place.run({ ...view('/topmost', { lower: only }), ...probe('cat', '/view') })
  assert.equal(ran, { code: 0, out: '0\n', err: '' })
  place.reset()
  const write = probe('write-file', '/view/x', 'x')
  assert.match(place.run({ ...view('/', { lower: only }), ...write }).err, /EROFS/)
  assert.equal(readdirSync(only[0] ?? '').sort(), ['sub', 'topmost'])
  place.reset()
})

test('a link of the layers leads to nothing of the host', () => {
  for (const source of ['/outside', '/climbing', '/none', '/topmost/none']) {
    const ran = place.run({ ...view(source), ...probe('cat', '/view/passwd') })
    assert.is.not(ran.code, 0)
    assert.match(ran.err, /in the layers of the mount at \/view/)
    place.reset()
  }
})

test('two views go beside a root of as many layers', () => {
  const mounts = [
    ...view('/').mounts,
    bind('/sub', '/other', { lower, recursive: false, setAttributes: ATTRIBUTE.readonly }),
  ]
  const root = { kind: 'overlay' as const, lower: [...lower, place.lower], options: [] }
  const { args } = probe('cat', '/view/topmost', '/other/file-7')
  for (const given of [{}, USER]) {
    const upper = { upper: place.make('upper'), work: place.make('work') }
    const ran = place.run({ ...given, mounts, root: { ...root, ...upper }, args })
    assert.equal(ran, { code: 0, out: '129\n7\n', err: '' })
    place.reset()
  }
})

test('layers whose paths are longer than the mount API takes are seen', () => {
  let deep = place.path('deep')
  while (deep.length < 400) deep = join(deep, 'd'.repeat(100))
  mkdirSync(deep, { recursive: true })
  writeFileSync(join(deep, 'found'), 'yes\n')
  const ran = place.run({
    ...view('/', { lower: [deep, ...lower.slice(0, 2)] }),
    ...probe('cat', '/view/found'),
  })
  assert.equal(ran, { code: 0, out: 'yes\n', err: '' })
  place.reset()
})

test('a layer that is not there is named', () => {
  const ran = place.run({ ...view('/', { lower: ['/gone', ...lower] }), ...probe('cat', '/view') })
  assert.match(ran.err, /layer \/gone/)
  place.reset()
})

test('nothing is left behind', async () => {
  place.remove()
  await clean()
})

test.run()
