import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { execContainer, openEngine } from '../../src/engine/index.ts'
import { withBerth } from '../lib/berth.ts'
import { needs } from '../lib/needs.ts'

needs('root', 'overlay', 'cgroup2')

/** Of these about one in a thousand was lost when the first of two clones ended after the second. */
const EXECS = 300
const AT_ONCE = 4

test('programs that end at once are never taken for killed ones, however many run', async () => {
  await withBerth(async (berth) => {
    await berth.ok([
      'run',
      '-d',
      '--net',
      'none',
      '--name',
      'host',
      'hello',
      '/bin/probe',
      'sleep',
      '600',
    ])
    const engine = openEngine({ root: berth.root, state: berth.state, warn: assert.unreachable })
    const some = async (): Promise<void> => {
      for (let i = 0; i < EXECS; i++) {
        const session = await execContainer(engine, 'host', {
          command: ['/bin/probe', 'exit', String(i % 100)],
          interactive: false,
          terminal: false,
          detach: false,
          env: [],
          privileged: false,
          rows: 0,
          columns: 0,
        })
        assert.ok('exit' in session)
        for await (const { data } of session.output) assert.is(data.toString(), '')
        assert.is((await session.exit).code, i % 100)
      }
    }
    await Promise.all(Array.from({ length: AT_ONCE }, some))
  })
})

test.run()
