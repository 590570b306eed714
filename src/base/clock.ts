/** Further apart than this, the clock was set: the two are brought together anew. */
const DRIFT_NS_MAX = 2_000_000n

let offset: bigint | undefined

/**
 * The time of day in nanoseconds since the epoch, right to 2 ms. Within one process later calls give larger values as long as nobody sets the
 * clock back.
 */
export function nowNs(): bigint {
  const monotonic = process.hrtime.bigint()
  const wall = BigInt(Date.now()) * 1_000_000n
  const drift = offset === undefined ? undefined : wall - (offset + monotonic)
  if (drift === undefined || drift > DRIFT_NS_MAX || drift < -DRIFT_NS_MAX)
    offset = wall - monotonic
  return (offset ?? 0n) + monotonic
}

/** Milliseconds since some moment, never set back. As `performance.now()`, which takes some milliseconds to load. */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint()) / 1e6
}
