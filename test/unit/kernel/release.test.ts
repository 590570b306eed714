import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { requireKernel } from '../../../src/kernel/release.ts'

for (const release of ['5.14.0-427.el9.x86_64', '6.1.0-32-amd64', '7.2.7', '10.0', 'unknown']) {
  test(`${release} is new enough`, () => requireKernel(release))
}

for (const release of ['5.13.19', '5.10.0-30-amd64', '4.19.0', '3.14']) {
  test(`${release} is refused, with what is needed`, () => {
    assert.throws(() => requireKernel(release), new RegExp(`Linux ${release}: .* 5\\.14 or newer`))
  })
}

test.run()
