/** A container with CAP_SYS_PTRACE waits for an exec, to take its process over while that still has the host's privileges. */

import { copyFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { PROBE } from '../lib/inside.ts'
import { collect, MonitorBench } from '../lib/monitor.ts'
import { needs } from '../lib/needs.ts'

needs('root', 'cgroup2', 'program:busybox')

const ALL = 0x1ffffffffffn
const EXECS = 60
const bench = new MonitorBench()
copyFileSync(PROBE, join(bench.root, 'bin/probe'))

for (const noNewPrivileges of [true, false]) {
  test(`no process of an exec is seen with a capability, no_new_privs ${noNewPrivileges}`, async () => {
    const id = `watch-${noNewPrivileges}`
    const { monitor, session } = await bench.run(id, '', {
      process: {
        args: ['/bin/probe', 'watch-privileges', '3'],
        capabilities: {
          bounding: ALL,
          effective: ALL,
          permitted: ALL,
          inheritable: 0n,
          ambient: 0n,
        },
      },
    })
    const output = collect(session)
    // Until the watcher ends, or as many as are enough.
    for (let i = 0; i < EXECS; i++) {
      const exec = bench.exec(id, '', { args: ['/bin/true'], noNewPrivileges })
      const ran = await monitor.execDetached(exec).catch(() => undefined)
      if (!ran) break
    }
    const text = await output
    assert.not.match(text, /PRIVILEGED/)
    // Else the claim would say nothing.
    assert.ok(Number(/done (\d+)/.exec(text)?.[1]) > 10, text)
  })
}

test('everything is taken away', () => bench.end())

test.run()
