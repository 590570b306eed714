/** Which installed plugins are done in the process itself. */
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { generationOf } from '../../../src/network/standard.ts'
import { testDirectory } from '../../lib/traces.ts'

const PROOF = 'path\tgithub.com/containernetworking/plugins/plugins/meta/firewall'

test('a standard plugin is known by what it was built from, for the versions that it speaks', async () => {
  const directory = testDirectory()
  const plugin = (versions: string, proof = PROOF): void =>
    writeFileSync(
      join(directory, 'firewall'),
      `#!/bin/sh\ncat >/dev/null\necho '{"supportedVersions":${versions}}'\nexit\n${proof}\n`,
      { mode: 0o755 },
    )
  const generation = (version: string) => generationOf('firewall', [directory], version)
  try {
    plugin('["0.4.0","1.0.0"]')
    assert.is(await generation('1.0.0'), 'before-1.6')
    // It would refuse these, and so would its DEL.
    for (const version of ['0.3.1', '1.1.0', '']) assert.is(await generation(version), undefined)
    plugin('["0.4.0","1.0.0","1.1.0"]')
    assert.is(await generation('1.1.0'), 'since-1.6')
    plugin('["0.4.0","1.0.0","1.1.0","1.2.0"]')
    assert.is(await generation('1.0.0'), undefined)
    plugin('["0.4.0","1.0.0"]', 'path\texample.org/firewall')
    assert.is(await generation('1.0.0'), undefined)
  } finally {
    rmSync(directory, { recursive: true })
  }
})

test.run()
