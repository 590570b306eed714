/** The time of day in nanoseconds since the epoch, to the millisecond, told apart within it by a running number. */
export function nowNs(): bigint {
  return BigInt(Date.now()) * 1_000_000n + (process.hrtime.bigint() % 1_000_000n)
}
