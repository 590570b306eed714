import { eventually } from './eventually.ts'

const PERIOD_USEC = 100_000
const PERIODS = 20
const SPANS = 15

/**
 * The share of a processor that a busy loop gets under its quota, by the kernel's own count of periods of 100 ms: a host that is slow makes them late, not
 * longer. One whose processors others take may not give all of it: of so many spans of 20 periods it is the first above `least`, or the last.
 */
export async function shareUnderQuota(
  least: number,
  read: (key: 'nr_periods' | 'usage_usec') => number,
): Promise<number> {
  const first = read('nr_periods') + 2
  await eventually('the loop is at its limit', () => read('nr_periods') >= first)
  let share = 0
  for (let span = 0; span < SPANS && share <= least; span++) {
    const periods = read('nr_periods')
    const usec = read('usage_usec')
    const enough = (): boolean => read('nr_periods') - periods >= PERIODS
    await eventually(`${PERIODS} periods`, enough, { withinMs: 30_000 })
    share = (read('usage_usec') - usec) / ((read('nr_periods') - periods) * PERIOD_USEC)
  }
  return share
}
