import { execFileSync, spawnSync } from 'node:child_process'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { test } from 'uvu'
import * as assert from 'uvu/assert'

const BERTH = fileURLToPath(new URL('../../../../bin/berth.cjs', import.meta.url))

/** How many bytes come through a pipe whose reader sleeps, and that is full but for some hundred bytes when berth begins. */
function bytesThrough(command: string): number {
  const before = 65_000
  const script = `{ head -c ${before} /dev/zero; ${command}; } | { sleep 1; wc -c; }`
  const text = execFileSync('sh', ['-c', script, 'sh', process.execPath, BERTH], {
    encoding: 'utf8',
  })
  return Number(text) - before
}

test('a help is whole though its reader is slow', () => {
  const help = execFileSync(process.execPath, [BERTH, '--help'])
  assert.ok(help.length > 1000)
  assert.is(bytesThrough('"$1" "$2" --help'), help.length)
})

test('an error is whole though its reader is slow', () => {
  assert.ok(bytesThrough(`"$1" "$2" no-such-command-${'x'.repeat(2000)} 2>&1`) > 2000)
})

test('a reader that is gone does not hold berth up', () => {
  const script = '{ sleep 0.5; "$1" "$2" --help; } | true'
  execFileSync('sh', ['-c', script, 'sh', process.execPath, BERTH], { timeout: 10_000 })
})

test('an --env-file is ours, not that of Node', () => {
  const env = { ...process.env, PATH: `${dirname(process.execPath)}:${process.env['PATH']}` }
  const words = ['run', '--env-file', '/nonexistent', 'hello']
  const { status, stderr } = spawnSync(BERTH, words, { env, encoding: 'utf8' })
  assert.match(stderr, /^berth: cannot read \/nonexistent: /)
  assert.is(status, 125)
})

test.run()
