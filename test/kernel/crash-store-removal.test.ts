/** kill -9 at fifty points, or BERTH_CRASH_KILLS, of what takes images out of the store: see killAtPoints. */
import { test } from 'uvu'
import { needs } from '../lib/needs.ts'
import { endKilling, KILLS, killAtPoints, measure } from '../lib/store-kill.ts'

needs('root')

const WORKS = ['tag', 'rmi', 'rmi', 'gc', 'prune'] as const

test('each work is measured, and leaves good trees', () => measure(WORKS))

test(`${KILLS} kills: the store opens, is whole, and the pull completes`, () =>
  killAtPoints(WORKS, KILLS))

test.after(endKilling)
test.run()
