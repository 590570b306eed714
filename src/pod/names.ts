import { Fault } from '../base/fault.ts'
import type { ContainerMetadata, PodSandboxMetadata } from '../spec/cri.ts'

/** What Kubernetes allows for the names of its objects (253), and room for clients that are more generous. */
const NAME_BYTES_MAX = 512

/** What names a pod for a client: of two calls with the same one, the second is a retry of the first. */
export function podName(metadata: PodSandboxMetadata | null): string {
  if (!metadata) throw invalid('config.metadata', 'is missing')
  const { name, namespace, uid, attempt } = metadata
  check('config.metadata.name', name)
  check('config.metadata.uid', uid)
  check('config.metadata.namespace', namespace)
  return JSON.stringify([name, namespace, uid, attempt])
}

/** The same of a container within its pod. */
export function containerName(metadata: ContainerMetadata | null): string {
  if (!metadata) throw invalid('config.metadata', 'is missing')
  check('config.metadata.name', metadata.name)
  return JSON.stringify([metadata.name, metadata.attempt])
}

function check(field: string, text: string): void {
  if (text === '') throw invalid(field, 'is empty')
  if (Buffer.byteLength(text) > NAME_BYTES_MAX)
    throw invalid(field, `is longer than ${NAME_BYTES_MAX} bytes`)
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is refused.
  if (/[\x00-\x1f\x7f]/.test(text)) throw invalid(field, 'holds a control character')
}

export function invalid(field: string, why: string): Fault {
  return new Fault('INVALID_ARGUMENT', `${field} ${why}`)
}

/** Whether two requests say the same: a client written in Go gives the entries of a map in another order each time. */
export const isSame = (a: object, b: object): boolean => canonical(a) === canonical(b)

function canonical(value: object): string {
  return JSON.stringify(value, (_, each: unknown) =>
    typeof each === 'object' && each !== null && !Array.isArray(each)
      ? Object.fromEntries(Object.entries(each).sort(([a], [b]) => (a < b ? -1 : 1)))
      : each,
  )
}
