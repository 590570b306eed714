/** The validation suite of the runtime-spec: what crun or runc pass, berth-oci passes (docs/conformance.md has the table of all). */
import { existsSync, rmdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { cgroupRoot, needs } from '../lib/needs.ts'
import { traces } from '../lib/traces.ts'
import { hasPassed, SUITE, testsOfSuite, validate } from '../lib/validation.ts'

needs('root', `file:${SUITE}/runtimetest`, 'program:crun', 'program:runc')

/** Of the directories of `validate`. */
const clean = traces({ roots: [join(tmpdir(), 'berth-validation-')] })
let failing: string[] = []

test('berth-oci passes most of the suite', async () => {
  const tests = testsOfSuite()
  assert.is(tests.length, 58)
  const verdicts = await validate('berth-oci', tests)
  assert.is(verdicts.size, tests.length)
  failing = [...verdicts].filter(([, verdict]) => !hasPassed(verdict)).map(([name]) => name)
  assert.ok(failing.length < 29, `fails: ${failing.join(', ')}`)
})

test('what it does not pass, neither crun nor runc passes', async () => {
  for (const peer of ['crun', 'runc'] as const) {
    const verdicts = await validate(peer, failing)
    const passed = failing.filter((name) => {
      const verdict = verdicts.get(name)
      return verdict !== undefined && hasPassed(verdict)
    })
    assert.equal(passed, [], `${peer} passes what berth-oci does not`)
  }
})

test('nothing is left behind', async () => {
  // Parents of cgroups are nobody's to remove.
  for (const path of ['berth/testdir/cgrouptest', 'berth/testdir', 'berth']) {
    const parent = join(cgroupRoot(), path)
    if (existsSync(parent)) rmdirSync(parent)
  }
  await clean()
})
test.run()
