import * as assert from 'uvu/assert'
import type { FaultCode } from '../../src/base/fault.ts'

/** Work that must fail with this code and reason. */
export async function refused(
  work: Promise<unknown>,
  code: FaultCode,
  reason: RegExp,
): Promise<void> {
  try {
    await work
  } catch (error) {
    assert.is((error as { code?: string }).code, code, String(error))
    assert.match(String(error), reason)
    return
  }
  assert.unreachable('it was accepted')
}
