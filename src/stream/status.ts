import { describe, harmless } from '../base/fault.ts'
import { ERROR_TEXT_MAX } from './limits.ts'

/** How a command ended, as its client is told. */
export type Outcome =
  | { readonly kind: 'exit'; readonly code: number }
  | { readonly kind: 'failure'; readonly text: string }

/** What a client makes of an error: its text and those of its causes. */
export function errorText(what: string, error: unknown): string {
  return harmless(`${what}: ${describe(error)}`).slice(0, ERROR_TEXT_MAX)
}

/** Since version 4 of the protocol: the JSON of a metav1.Status, which carries the exit code. */
export function structuredStatus(outcome: Outcome): Buffer {
  return Buffer.from(JSON.stringify({ metadata: {}, ...statusOf(outcome) }))
}

/** Up to version 3: a text where it failed, nothing where it succeeded. */
export function plainStatus(outcome: Outcome): Buffer {
  return Buffer.from(statusOf(outcome).message ?? '')
}

interface Status {
  readonly status: 'Success' | 'Failure'
  readonly message?: string
  readonly reason?: string
  readonly details?: { readonly causes: readonly { reason: string; message: string }[] }
  readonly code?: number
}

/** The texts are those of Kubernetes' own server: users know them, and scripts look for them. */
function statusOf(outcome: Outcome): Status {
  if (outcome.kind === 'failure') {
    return {
      status: 'Failure',
      message: `Internal error occurred: ${outcome.text}`,
      reason: 'InternalError',
      code: 500,
    }
  }
  if (outcome.code === 0) return { status: 'Success' }
  return {
    status: 'Failure',
    message: `command terminated with non-zero exit code: exit status ${outcome.code}`,
    reason: 'NonZeroExitCode',
    details: { causes: [{ reason: 'ExitCode', message: String(outcome.code) }] },
  }
}
