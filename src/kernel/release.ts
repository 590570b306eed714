import { Fault } from '../base/fault.ts'

/** cgroup.kill is there since 5.14, mount_setattr(2) since 5.12: docs/native.md has the whole table. */
const MAJOR = 5
const MINOR = 14

/** UNIMPLEMENTED where the release, such as `6.1.0-32-amd64`, is of a kernel too old for berth. A name that is no version passes. */
export function requireKernel(release: string): void {
  const [, major, minor] = /^(\d+)\.(\d+)/.exec(release)?.map(Number) ?? []
  if (major === undefined || minor === undefined) return
  if (major > MAJOR || (major === MAJOR && minor >= MINOR)) return
  throw new Fault(
    'UNIMPLEMENTED',
    `this machine runs Linux ${release}: berth needs Linux ${MAJOR}.${MINOR} or newer (cgroup.kill, mount_setattr)`,
  )
}
