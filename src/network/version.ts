import { Fault } from '../base/fault.ts'

/** The versions of the CNI specification that berth speaks, oldest first. */
export const CNI_VERSIONS = ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const

/** Compares two versions of the specification; negative when `a` is older. */
export function compareVersions(a: string, b: string): number {
  const left = a.split('.').map(Number)
  const right = b.split('.').map(Number)
  for (let i = 0; i < 3; i++) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0)
    if (difference !== 0) return difference
  }
  return 0
}

/** The version itself; UNIMPLEMENTED where it is none of CNI_VERSIONS. */
export function checkVersion(version: string, subject: string): string {
  if ((CNI_VERSIONS as readonly string[]).includes(version)) return version
  throw new Fault(
    'UNIMPLEMENTED',
    `${subject} asks for CNI version "${version}": berth knows ${CNI_VERSIONS.join(', ')}`,
  )
}

/** The newest version that all parties know; undefined where they share none. */
export function newestCommon(lists: readonly (readonly string[])[]): string | undefined {
  const shared = CNI_VERSIONS.filter((version) => lists.every((list) => list.includes(version)))
  return shared.at(-1)
}
