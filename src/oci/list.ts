import { Fault } from '../base/fault.ts'
import { idsOf, type OciRecord, type Place, placeOf, readRecordIfAny } from './record.ts'
import { type Status, statusOf } from './status.ts'

/** What `state` and `list` tell: the runtime-spec's state and runc's further fields. */
export interface StateRow {
  readonly ociVersion: string
  readonly id: string
  readonly pid: number
  readonly status: Status
  readonly bundle: string
  readonly rootfs: string
  readonly created: string
  readonly annotations?: Readonly<Record<string, string>>
  readonly owner: string
}

export async function stateRow(place: Place, record: OciRecord): Promise<StateRow> {
  const status = await statusOf(place, record)
  return {
    ociVersion: record.ociVersion,
    id: record.id,
    pid: status === 'stopped' ? 0 : (record.pid ?? 0),
    status,
    bundle: record.bundle,
    rootfs: record.rootfs,
    created: record.created,
    ...(Object.keys(record.annotations).length > 0 ? { annotations: record.annotations } : {}),
    owner: 'root',
  }
}

/** All containers of a root; one that is just made or removed is left out. */
export async function listContainers(root: string): Promise<StateRow[]> {
  const rows: StateRow[] = []
  for (const id of idsOf(root)) {
    const place = placeOf(root, id)
    const record = readRecordIfAny(place)
    if (record) rows.push(await stateRow(place, record))
  }
  return rows
}

export function listText(rows: readonly StateRow[], format: string): string {
  if (format === 'json') return `${JSON.stringify(rows)}\n`
  if (format !== 'table') {
    throw new Fault('INVALID_ARGUMENT', `invalid format ${JSON.stringify(format)}: table or json`)
  }
  const cells = [
    ['ID', 'PID', 'STATUS', 'BUNDLE', 'CREATED', 'OWNER'],
    ...rows.map((r) => [r.id, String(r.pid), r.status, r.bundle, r.created, r.owner]),
  ]
  const widths = (cells[0] ?? []).map((_, column) =>
    Math.max(...cells.map((row) => row[column]?.length ?? 0)),
  )
  return cells
    .map(
      (row) =>
        `${row
          .map((cell, i) => cell.padEnd((widths[i] ?? 0) + 2))
          .join('')
          .trimEnd()}\n`,
    )
    .join('')
}
