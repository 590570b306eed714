import { binding } from './binding.ts'

/** Averages in percent, for some of the processes that wait and for all of them. */
const PRESSURE = ['TotalUs', 'Avg10', 'Avg60', 'Avg300'] as const
const pressure = (of: string): string[] =>
  ['Some', 'Full'].flatMap((kind) => PRESSURE.map((name) => `${of}${kind}${name}`))

/** What a row of Binding.readGroups holds, in the order of native/addon/groups.cc. */
const COLUMNS = [
  'cpuUs',
  'memoryBytes',
  'inactiveFileBytes',
  'anonBytes',
  'pageFaults',
  'majorPageFaults',
  'memoryLimitBytes',
  'swapBytes',
  'swapLimitBytes',
  'pids',
  'residentBytes',
  'nested',
  ...pressure('cpu'),
  ...pressure('memory'),
  ...pressure('io'),
]

const column = (name: string): number => COLUMNS.indexOf(name)

const CPU = column('cpuUs')
const MEMORY = column('memoryBytes')
const INACTIVE_FILE = column('inactiveFileBytes')
const ANON = column('anonBytes')
const PAGE_FAULTS = column('pageFaults')
const MAJOR_PAGE_FAULTS = column('majorPageFaults')
const MEMORY_LIMIT = column('memoryLimitBytes')
const SWAP = column('swapBytes')
const SWAP_LIMIT = column('swapLimitBytes')
const PIDS = column('pids')
const RESIDENT = column('residentBytes')
const NESTED = column('nested')
const PRESSURE_OF = {
  cpu: column('cpuSomeTotalUs'),
  memory: column('memorySomeTotalUs'),
  io: column('ioSomeTotalUs'),
}

/** What processes have waited for something, as the kernel counts it (pressure stall information). */
export interface GroupPressure {
  readonly totalUs: number
  /** Percent of the last 10, 60 and 300 seconds. */
  readonly avg10: number
  readonly avg60: number
  readonly avg300: number
}

/** What a cgroup uses. What its controllers, or the kernel, do not tell is undefined, never 0. Exact up to 2^53. */
export class GroupUsage {
  readonly #rows: Float64Array
  readonly #begin: number

  constructor(rows: Float64Array, index: number) {
    this.#rows = rows
    this.#begin = index * COLUMNS.length
  }

  get cpuUs(): number | undefined {
    return this.#at(CPU)
  }

  get memoryBytes(): number | undefined {
    return this.#at(MEMORY)
  }

  get inactiveFileBytes(): number {
    return this.#at(INACTIVE_FILE) ?? 0
  }

  get anonBytes(): number {
    return this.#at(ANON) ?? 0
  }

  get pageFaults(): number {
    return this.#at(PAGE_FAULTS) ?? 0
  }

  get majorPageFaults(): number {
    return this.#at(MAJOR_PAGE_FAULTS) ?? 0
  }

  /** Undefined for no limit, here and below. */
  get memoryLimitBytes(): number | undefined {
    return this.#at(MEMORY_LIMIT)
  }

  get swapBytes(): number | undefined {
    return this.#at(SWAP)
  }

  get swapLimitBytes(): number | undefined {
    return this.#at(SWAP_LIMIT)
  }

  /** By the controller; with `processes`, else by counting. */
  get pids(): number | undefined {
    return this.#at(PIDS)
  }

  /** Only with `processes`, of a group without the memory controller. */
  get residentBytes(): number | undefined {
    return this.#at(RESIDENT)
  }

  /** There are groups below it, so its processes were not asked. */
  get isNested(): boolean {
    return this.#at(NESTED) !== undefined
  }

  some(of: keyof typeof PRESSURE_OF): GroupPressure | undefined {
    return this.#pressure(PRESSURE_OF[of])
  }

  /** Undefined where the kernel does not tell (cpu before Linux 5.13). */
  full(of: keyof typeof PRESSURE_OF): GroupPressure | undefined {
    return this.#pressure(PRESSURE_OF[of] + PRESSURE.length)
  }

  #pressure(at: number): GroupPressure | undefined {
    const totalUs = this.#at(at)
    if (totalUs === undefined) return
    const percent = (by: number): number => this.#at(at + by) ?? 0
    return { totalUs, avg10: percent(1), avg60: percent(2), avg300: percent(3) }
  }

  #at(column: number): number | undefined {
    const value = this.#rows[this.#begin + column]
    return value === undefined || Number.isNaN(value) ? undefined : value
  }
}

/**
 * What each of these cgroups uses now. Its files stay open for the next look, until forgetGroup. With `processes`, what the controllers memory and pids would
 * tell is asked of the processes of groups that lack them.
 */
export async function readGroups(
  directories: readonly string[],
  processes: boolean,
): Promise<GroupUsage[]> {
  const rows = await binding.readGroups(directories, processes)
  return directories.map((_, i) => new GroupUsage(rows, i))
}

/** For a group that nobody looks at any more. */
export function forgetGroup(directory: string): void {
  binding.forgetGroup(directory)
}
