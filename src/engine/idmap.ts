import {
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  unlinkSync,
} from 'node:fs'
import { join } from 'node:path'
import { Fault, isErrno } from '../base/fault.ts'
import type { IdMapping } from '../spec/runtime.ts'
import type { Engine } from './open.ts'
import { containerIds } from './record.ts'

/** Host ids that systemd's table of ids leaves free ("unused", below 2^31): where --userns auto takes its ranges from. */
const AUTO_FIRST = 0x70000000
const AUTO_SIZE = 65536
const AUTO_COUNT = 4094

export interface Mappings {
  readonly uidMappings: IdMapping[]
  readonly gidMappings: IdMapping[]
}

/**
 * The user namespace that --userns asks for: undefined for the host's; 'auto' takes a range of 65536 ids that no other container of this berth
 * has; 'UID:GID:SIZE' maps SIZE ids from 0 on to the host's from UID and GID on.
 */
export function userMappings(
  engine: Engine,
  userns: string | undefined,
  id: string,
): Mappings | undefined {
  if (userns === undefined || userns === '' || userns === 'host') return undefined
  if (userns === 'auto') {
    const first = takeRange(engine, id)
    return mapped(first, first, AUTO_SIZE)
  }
  const match = /^([0-9]{1,10}):([0-9]{1,10}):([0-9]{1,10})$/.exec(userns)
  const [uid, gid, size] = (match ?? []).slice(1).map(Number)
  if (uid === undefined || gid === undefined || size === undefined) {
    throw new Fault(
      'INVALID_ARGUMENT',
      `--userns ${userns} is not "host", "auto" or UID:GID:SIZE with the first host uid and gid and the number of ids`,
    )
  }
  if (size < 1 || uid + size > 2 ** 32 - 1 || gid + size > 2 ** 32 - 1) {
    throw new Fault(
      'INVALID_ARGUMENT',
      `--userns ${userns} leaves the range of ids (0 to 4294967294)`,
    )
  }
  return mapped(uid, gid, size)
}

function mapped(uid: number, gid: number, size: number): Mappings {
  return {
    uidMappings: [{ containerID: 0, hostID: uid, size }],
    gidMappings: [{ containerID: 0, hostID: gid, size }],
  }
}

/** A range is taken by making a symbolic link of its number to the container's id: by one process only, and found again after a crash. */
function takeRange(engine: Engine, id: string): number {
  mkdirSync(engine.at.idRanges, { recursive: true, mode: 0o700 })
  const taken = new Set(readdirSync(engine.at.idRanges))
  const reserved = subordinateRanges()
  for (let n = 0; n < AUTO_COUNT; n++) {
    const first = AUTO_FIRST + n * AUTO_SIZE
    if (taken.has(String(n))) continue
    if (reserved.some((r) => first < r.first + r.size && r.first < first + AUTO_SIZE)) continue
    try {
      symlinkSync(id, join(engine.at.idRanges, String(n)))
      return first
    } catch (error) {
      if (!isErrno(error, 'EEXIST')) throw error
    }
  }
  throw new Fault(
    'RESOURCE_EXHAUSTED',
    `all ${AUTO_COUNT} id ranges for --userns auto are taken; remove containers that have one`,
  )
}

/** Gives back every range of a container. */
export function releaseRanges(engine: Engine, id: string): void {
  for (const n of rangeNames(engine)) {
    const path = join(engine.at.idRanges, n)
    try {
      if (readlinkSync(path) === id) unlinkSync(path)
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) throw error
    }
  }
}

/** Ranges whose container is gone: left by a create that was killed. */
export function releaseAbandonedRanges(engine: Engine): void {
  const ranges = rangeNames(engine)
  // After the ranges: a create makes its directory before it takes one, so whoever had a range by then is seen here.
  const known = new Set(containerIds(engine))
  for (const n of ranges) {
    try {
      const id = readlinkSync(join(engine.at.idRanges, n))
      if (!known.has(id)) releaseRanges(engine, id)
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) throw error
    }
  }
}

function rangeNames(engine: Engine): string[] {
  try {
    return readdirSync(engine.at.idRanges)
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return []
    throw error
  }
}

/** What the host has given to its users' own namespaces (subuid(5), subgid(5)). */
function subordinateRanges(): { first: number; size: number }[] {
  return ['/etc/subuid', '/etc/subgid'].flatMap((path) => {
    try {
      return readFileSync(path, 'utf8')
        .split('\n')
        .map((line) => line.split(':'))
        .filter((row) => row.length === 3)
        .map((row) => ({ first: Number(row[1]), size: Number(row[2]) }))
        .filter((range) => Number.isSafeInteger(range.first) && Number.isSafeInteger(range.size))
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return []
      throw error
    }
  })
}
