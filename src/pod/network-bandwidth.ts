import { Fault } from '../base/fault.ts'
import type { CapabilityArgs } from '../network/index.ts'

/** Kubernetes' annotations of a pod, in bits per second: what it may receive and what it may send. */
export const INGRESS_BANDWIDTH = 'kubernetes.io/ingress-bandwidth'
export const EGRESS_BANDWIDTH = 'kubernetes.io/egress-bandwidth'

/** Kubernetes' own limits: 1k and 1P. */
const RATE_MIN = 1000n
const RATE_MAX = 1_000_000_000_000_000n
/** In bits. What containerd gives: 512 MiB, in effect none. The plugin wants one. */
const BURST = 2 ** 32 - 1

/** The bandwidth that the annotations ask for; undefined where they ask for none. INVALID_ARGUMENT names the annotation. */
export function podBandwidth(
  annotations: Readonly<Record<string, string>>,
): CapabilityArgs['bandwidth'] {
  const ingress = rate(annotations, INGRESS_BANDWIDTH)
  const egress = rate(annotations, EGRESS_BANDWIDTH)
  if (ingress === undefined && egress === undefined) return undefined
  return {
    ...(ingress === undefined ? {} : { ingressRate: ingress, ingressBurst: BURST }),
    ...(egress === undefined ? {} : { egressRate: egress, egressBurst: BURST }),
  }
}

function rate(annotations: Readonly<Record<string, string>>, name: string): number | undefined {
  const text = Object.hasOwn(annotations, name) ? annotations[name] : undefined
  if (text === undefined) return undefined
  const bad = (reason: string): Fault =>
    new Fault('INVALID_ARGUMENT', `annotation ${name} is ${JSON.stringify(text)}: ${reason}`)
  const value = parseQuantity(text)
  if (value === undefined) throw bad('no quantity, such as 10M or 512Ki')
  if (value < RATE_MIN) throw bad('less than 1k bits per second')
  if (value > RATE_MAX) throw bad('more than 1P bits per second')
  return Number(value)
}

const QUANTITY = /^([+-]?)(\d+(?:\.\d*)?|\.\d+)(?:([eE][+-]?\d{1,2})|([KMGTPE]i)|([numkMGTPE]))?$/
const QUANTITY_LENGTH_MAX = 64
const BINARY = ['Ki', 'Mi', 'Gi', 'Ti', 'Pi', 'Ei']
const DECIMAL: Readonly<Record<string, number>> = {
  n: -9,
  u: -6,
  m: -3,
  k: 3,
  M: 6,
  G: 9,
  T: 12,
  P: 15,
  E: 18,
}

/** A Kubernetes quantity as a whole number, rounded up; undefined where it is none. */
export function parseQuantity(text: string): bigint | undefined {
  const match = text.length > QUANTITY_LENGTH_MAX ? null : QUANTITY.exec(text)
  if (!match) return undefined
  const [, sign, digits = '', exponent, binary, decimal] = match
  const [whole = '', fraction = ''] = digits.split('.')
  let power = -fraction.length
  if (exponent !== undefined) power += Number(exponent.slice(1))
  if (decimal !== undefined) power += DECIMAL[decimal] ?? 0
  let value = BigInt(`${whole}${fraction}`)
  if (binary !== undefined) value *= 1024n ** BigInt(BINARY.indexOf(binary) + 1)
  if (sign === '-') value = -value
  if (power >= 0) return value * 10n ** BigInt(power)
  const divisor = 10n ** BigInt(-power)
  // BigInt division goes towards zero: that is up for what is negative.
  return value / divisor + (value > 0n && value % divisor !== 0n ? 1n : 0n)
}
