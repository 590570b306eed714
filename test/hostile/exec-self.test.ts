/** CVE-2019-5736 from the command line: the monitor's program is overwritten through /proc/PID/exe, in run and in exec. */
import { createHash } from 'node:crypto'
import { chmodSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { berthOfFile } from '../lib/berth.ts'
import { MONITOR } from '../lib/inside.ts'
import { needs } from '../lib/needs.ts'

needs('root', 'overlay', 'cgroup2')

const { berth, nothingIsLeft } = berthOfFile()
const digest = () => createHash('sha256').update(readFileSync(MONITOR)).digest('hex')
const before = {
  digest: digest(),
  mtimeMs: statSync(MONITOR).mtimeMs,
  inode: statSync(MONITOR).ino,
}
const scripts = join(berth.directory, 'scripts')
mkdirSync(scripts)
writeFileSync(join(scripts, 'self'), '#!/proc/self/exe spin\n')
writeFileSync(join(scripts, 'one'), '#!/proc/1/exe\n')
for (const name of ['self', 'one']) chmodSync(join(scripts, name), 0o755)
const base = [
  '--net=none',
  '--cap-add=ALL',
  '--security-opt=seccomp=unconfined',
  `--volume=${scripts}:/scripts:ro`,
]

for (const extra of [[], ['--privileged'], ['--init']]) {
  test(`run ${extra.join(' ')} of a program that is /proc/self/exe does not get at the monitor`, async () => {
    for (const script of ['self', 'one']) {
      const { code } = await berth.run([
        'run',
        '--rm',
        ...base,
        ...extra,
        'hello',
        `/scripts/${script}`,
      ])
      assert.is.not(code, 0)
    }
    const { code } = await berth.run([
      'run',
      '--rm',
      ...base,
      ...extra,
      '--entrypoint=/proc/self/exe',
      'hello',
    ])
    assert.is.not(code, 0)
  })
}

test('a container that waits for exec to come in finds nothing to write to', async () => {
  await berth.ok([
    'run',
    '-d',
    ...base,
    '--name=attacker',
    'hello',
    'probe',
    'exec-self-write',
    '8',
  ])
  for (let i = 0; i < 4; i++) {
    await Promise.all([
      berth.run(['exec', 'attacker', '/scripts/self']),
      berth.run(['exec', 'attacker', 'true']),
      berth.run(['exec', '--privileged', 'attacker', '/proc/self/exe']),
    ])
  }
  await berth.ok(['stop', '-t', '0', 'attacker'])
  assert.not.match(await berth.ok(['logs', 'attacker']), /WRITABLE/)
  await berth.ok(['rm', 'attacker'])
})

test('the program is what it was', () => {
  const { ino, mtimeMs } = statSync(MONITOR)
  assert.equal({ digest: digest(), mtimeMs, inode: ino }, before)
})

test('nothing is left behind', nothingIsLeft)

test.run()
