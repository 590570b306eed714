/** A filter that refuses rt_sigtimedwait: the reaper of --init, which takes signals by it, must not ask for ever. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { berthOfFile } from '../lib/berth.ts'
import { needs } from '../lib/needs.ts'

needs('root', 'overlay', 'cgroup2')

const { berth, nothingIsLeft } = berthOfFile()

for (const [name, refused] of [
  ['the program is reaped, and its code told', ['rt_sigtimedwait']],
  ['and wait4: it ends as what fails', ['rt_sigtimedwait', 'wait4', 'waitid']],
] as const) {
  test(name, async () => {
    const profile = join(berth.directory, 'profile.json')
    const syscalls = [{ names: refused, action: 'SCMP_ACT_ERRNO', errnoRet: 38 }]
    writeFileSync(profile, JSON.stringify({ defaultAction: 'SCMP_ACT_ALLOW', syscalls }))
    const { code, stderr } = await berth.run([
      ...['run', '--rm', '--net', 'none', '--init', '--security-opt', `seccomp=${profile}`],
      ...['hello', 'probe', 'exit', '7'],
    ])
    assert.is(code, refused.length === 1 ? 7 : 125, stderr)
  })
}

test('nothing is left behind', nothingIsLeft)

test.run()
