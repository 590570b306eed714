/** CVE-2019-5736: the monitor's program is overwritten through /proc/PID/exe of a process that is being started. */
import { createHash } from 'node:crypto'
import { chmodSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { MONITOR, NEW, Place, probe } from '../lib/inside.ts'
import { needs } from '../lib/needs.ts'
import { traces } from '../lib/traces.ts'

needs('root', 'overlay')

const place = new Place()
const clean = traces({ roots: [place.directory] })
const digest = () => createHash('sha256').update(readFileSync(MONITOR)).digest('hex')
const before = { digest: digest(), mtimeMs: statSync(MONITOR).mtimeMs }
const script = join(place.lower, 'bin/script')
writeFileSync(script, '#!/proc/self/exe spin\n')
chmodSync(script, 0o755)

test('a program that is /proc/self/exe cannot be written to by processes of its pid namespace', async () => {
  const attacker = await place.start(probe('exec-self-write', '3'))
  const victim = new Place()
  const pid = { type: 'pid' as const, path: `/proc/${attacker.pid}/ns/pid` }
  writeFileSync(join(victim.lower, 'bin/script'), readFileSync(script), { mode: 0o755 })
  try {
    for (let i = 0; i < 10; i++) {
      victim.run({
        args: ['/bin/script'],
        namespaces: [...NEW.filter((t) => t !== 'pid').map((type) => ({ type })), pid],
      })
      victim.run({
        ...probe('true'),
        namespaces: [...NEW.filter((t) => t !== 'pid').map((type) => ({ type })), pid],
      })
    }
  } finally {
    victim.remove()
    await attacker.end()
    place.reset()
  }
  assert.not.match(attacker.output(), /WRITABLE/)
})

test('a program that is /proc/self/exe runs ours from a read-only mount only', () => {
  const ran = place.run({ args: ['/bin/script'] })
  assert.is.not(ran.code, 0)
  const link = place.run({ ...probe('open', '/proc/1/exe', 'w'), reaper: true })
  assert.match(link.err, /EROFS|ETXTBSY|EACCES/)
})

test('the program is what it was', () => {
  assert.equal({ digest: digest(), mtimeMs: statSync(MONITOR).mtimeMs }, before)
})

test('nothing is left behind', async () => {
  place.remove()
  await clean()
})

test.run()
