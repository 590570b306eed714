import { constants, mkdirSync, openSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Fault } from '../base/fault.ts'
import { namesIn, readFileIfAny, TEMPORARY, writeFileAtomic } from '../base/file.ts'
import { Fd } from '../kernel/fd.ts'
import {
  AddFault,
  type Attached,
  type Attachment,
  addNetwork,
  type ChainOptions,
  checkCapabilities,
  checkNetwork,
  deleteNetwork,
} from './chain.ts'
import { isObject, type NetworkConf } from './conf.ts'
import type { NetworkResult } from './result.ts'

/**
 * A file of the results directory: all that DEL needs, also when the configuration has changed or is gone since. Its first line is written before
 * the first plugin runs; what becomes known is appended as further lines with further fields, which is ten times faster than writing the file
 * anew. A last line without its end was cut off by a full disk or a kill, and counts as not written.
 */
interface AttachmentRecord {
  readonly version: 1
  readonly conf: NetworkConf
  readonly attachment: Attachment
  /** Undefined from before ADD until it has succeeded: what a killed ADD did is taken back with it. */
  readonly added?: Added
  /** What the plugins had given so far, while ADD runs: some find their rules by it. */
  readonly partly?: Added
  readonly result?: NetworkResult
}

interface Added {
  readonly raw: unknown
  readonly cniVersion: string
}

/**
 * Attaches a container to a network, and remembers it in `directory` before and after: killed at any point, a later
 * detachNetwork takes back what was done.
 */
export async function attachNetwork(
  directory: string,
  conf: NetworkConf,
  attachment: Attachment,
  options: ChainOptions = {},
): Promise<NetworkResult> {
  checkCapabilities(conf, attachment.capabilities)
  const path = recordPath(directory, attachment.containerId, attachment.ifname)
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  const record: AttachmentRecord = { version: 1, conf, attachment }
  writeFileAtomic(path, lineOf(record), { mode: 0o600 })
  let attached: Attached | undefined
  try {
    attached = await addNetwork(conf, attachment, {
      ...options,
      progress: (raw, cniVersion) => append(path, { partly: { raw, cniVersion } }),
    })
    const { result, raw, version } = attached
    append(path, { added: { raw, cniVersion: version }, result })
    return result
  } catch (error) {
    // Taken back also when the caller has gone, or when the disk is too full for the record.
    const { signal: _, ...rest } = options
    let left: readonly Fault[] = []
    if (attached) left = await deleteNetwork(conf, attachment, attached, rest)
    else if (error instanceof AddFault) left = error.left
    // What is left of it is for a later detachNetworks.
    if (left.length === 0) rmSync(path, { force: true })
    throw error
  }
}

/**
 * Takes a container out of all its networks, newest interface first. Never attached is success. `netnsGone` tells the plugins that the
 * namespace cannot be opened any more; `netns` is its path now, where that may have changed ('' where it is gone). Everything is tried; where a plugin failed, its record stays for the next
 * call and the failures are returned.
 *
 * With the namespace gone the standard bridge plugin, where it is not done here, keeps a masquerade rule for the address (it would read it from there):
 * harmless, and gone at the next reboot, but a reason to detach while the namespace is still held.
 */
export async function detachNetworks(
  directory: string,
  containerId: string,
  options: ChainOptions & { readonly netnsGone?: boolean; readonly netns?: string } = {},
): Promise<Fault[]> {
  const failures: Fault[] = []
  for (const { path, record } of records(directory, containerId).reverse()) {
    const netns = options.netnsGone ? '' : (options.netns ?? record.attachment.netns)
    const attachment = { ...record.attachment, netns }
    const before = failures.length
    try {
      const known = record.added ?? record.partly
      const added = known && { raw: known.raw, version: known.cniVersion }
      failures.push(...(await deleteNetwork(record.conf, attachment, added, options)))
    } catch (error) {
      failures.push(error instanceof Fault ? error : new Fault('INTERNAL', String(error)))
    }
    if (failures.length === before) rmSync(path, { force: true })
  }
  dropHalfWritten(directory, containerId)
  return failures
}

/** What the container's networks gave it, by interface; empty where it is in none. */
export function attachedNetworks(
  directory: string,
  containerId: string,
): { network: string; ifname: string; result: NetworkResult }[] {
  return records(directory, containerId).flatMap(({ record }) =>
    record.result === undefined
      ? []
      : [
          {
            network: record.conf.name,
            ifname: record.attachment.ifname,
            result: record.result,
          },
        ],
  )
}

/** CHECK of all networks of a container: a Fault says what is not as it was attached. */
export async function checkNetworks(
  directory: string,
  containerId: string,
  options: ChainOptions & { readonly netns?: string } = {},
): Promise<void> {
  for (const { record } of records(directory, containerId)) {
    if (!record.added) continue
    const { raw, cniVersion } = record.added
    const netns = options.netns ?? record.attachment.netns
    const attachment = { ...record.attachment, netns }
    await checkNetwork(record.conf, attachment, { raw, version: cniVersion }, options)
  }
}

/** The ids of all containers that have a record here: those without a container are debris. */
export function attachedContainers(directory: string): string[] {
  return [...new Set(names(directory).map((name) => name.slice(0, name.lastIndexOf('@'))))]
}

/** The networks of all records, as they were when they were used: one for each name and content. */
export function recordedNetworks(directory: string): NetworkConf[] {
  const found = new Map<string, NetworkConf>()
  for (const id of attachedContainers(directory)) {
    for (const { record } of readable(directory, id)) {
      found.set(JSON.stringify(record.conf), record.conf)
    }
  }
  return [...found.values()]
}

/** The path of the namespace that a container was attached with; undefined where no record tells it. */
export function attachedNamespace(directory: string, containerId: string): string | undefined {
  return readable(directory, containerId)[0]?.record.attachment.netns
}

/** Removes what a writer of records that was killed has left beside them, of one container or of all; nobody else writes these now. */
export function dropHalfWritten(directory: string, containerId?: string): void {
  const beginning = containerId === undefined ? '' : `${containerId}@`
  for (const name of namesIn(directory)) {
    if (name.includes(TEMPORARY) && name.startsWith(beginning))
      rmSync(join(directory, name), { force: true })
  }
}

/** Drops a container's records: what they tell cannot be undone any more. */
export function forgetNetworks(directory: string, containerId: string): void {
  for (const name of namesOf(directory, containerId)) rmSync(join(directory, name), { force: true })
}

/** Sets damaged records of a container aside, as `NAME.damaged`; gives the paths that they had. */
export function setDamagedAside(directory: string, containerId: string): string[] {
  return namesOf(directory, containerId).flatMap((name) => {
    const path = join(directory, name)
    try {
      readRecord(path)
      return []
    } catch (error) {
      if (!(error instanceof Fault) || error.code !== 'DATA_LOSS') throw error
      renameSync(path, `${path}.damaged`)
      return [path]
    }
  })
}

// '@' is in no container id and sorts interfaces of one container together.
function recordPath(directory: string, containerId: string, ifname: string): string {
  const name = `${containerId}@${ifname}.json`
  if (/[/\0]/.test(name)) throw new Fault('INVALID_ARGUMENT', `"${name}" is no file name`)
  return join(directory, name)
}

function lineOf(fields: Partial<AttachmentRecord>): string {
  return `${JSON.stringify(fields)}\n`
}

function append(path: string, fields: Partial<AttachmentRecord>): void {
  // Never made anew: further fields without the first line are no record.
  using file = new Fd(openSync(path, constants.O_WRONLY | constants.O_APPEND))
  writeFileSync(file.number, lineOf(fields))
}

function names(directory: string): string[] {
  return namesIn(directory)
    .filter((name) => name.endsWith('.json') && name.includes('@'))
    .sort()
}

function namesOf(directory: string, containerId: string): string[] {
  return names(directory).filter((name) => name.slice(0, name.lastIndexOf('@')) === containerId)
}

interface ReadRecord {
  readonly path: string
  readonly record: AttachmentRecord
}

function records(directory: string, containerId: string): ReadRecord[] {
  return namesOf(directory, containerId).flatMap((name) => {
    const path = join(directory, name)
    const record = readRecord(path)
    return record === undefined ? [] : [{ path, record }]
  })
}

/** Those of the records that are not damaged. */
function readable(directory: string, containerId: string): ReadRecord[] {
  try {
    return records(directory, containerId)
  } catch (error) {
    if (error instanceof Fault && error.code === 'DATA_LOSS') return []
    throw error
  }
}

function readRecord(path: string): AttachmentRecord | undefined {
  const text = readFileIfAny(path)
  if (text === undefined) return undefined
  const lines = text.slice(0, text.lastIndexOf('\n') + 1).split('\n')
  const record: Record<string, unknown> = {}
  try {
    for (const line of lines) if (line !== '') Object.assign(record, JSON.parse(line))
  } catch {
    // Told below.
    delete record['version']
  }
  if (record['version'] !== 1 || !isObject(record['conf'])) {
    throw new Fault('DATA_LOSS', `${path} is damaged: it is no record of a network attachment`)
  }
  return record as unknown as AttachmentRecord
}
