/** What berth wants to be, as figures that follow from a run's rows. */
import { bestPeer, FLOOR, median, type Row } from './report.ts'

export interface Required {
  readonly what: string
  /** What the figure counts: `x` is a ratio. */
  readonly unit: 'x' | 'KiB' | 'MB' | 'ms'
  readonly most?: number
  readonly least?: number
  /** undefined: not measured in this run. */
  readonly value: (rows: readonly Row[]) => number | undefined
}

export interface Judged extends Omit<Required, 'value'> {
  readonly value: number | undefined
  readonly isMet: boolean | undefined
}

const find = (rows: readonly Row[], suite: string, begin: string) =>
  rows.find((row) => row.suite === suite && row.work.startsWith(begin))

/** Of one of ours, to the best peer. */
function ratio(suite: string, begin: string, subject = 'berth'): Required['value'] {
  return (rows) => {
    const row = find(rows, suite, begin)
    const best = row && bestPeer(row)
    const own = row?.of[subject]
    return own && best && median(own) / best.value
  }
}

function own(suite: string, begin: string): Required['value'] {
  return (rows) => {
    const values = find(rows, suite, begin)?.of['berth']
    return values && median(values)
  }
}

function both(
  first: Required['value'],
  second: Required['value'],
  of: (a: number, b: number) => number,
): Required['value'] {
  return (rows) => {
    const [a, b] = [first(rows), second(rows)]
    return a === undefined || b === undefined ? undefined : of(a, b)
  }
}

function floor(suite: string, begin: string): Required['value'] {
  return (rows) => {
    const values = find(rows, suite, begin)?.of[FLOOR]
    return values && median(values)
  }
}

const START_HOST = 'run, create, start; host network'

/** Conmon's memory is 257 KiB with 100 pods of CRI-O 1.37; of it 0.6x. */
const POD_KIB = 154

/** Sources: the project's goals. */
export const REQUIRED: readonly Required[] = [
  {
    what: 'run --rm --net none, with the daemon',
    unit: 'x',
    most: 0.1,
    value: ratio('run', 'run --rm', 'berth, daemon'),
  },
  { what: 'run --rm --net none, without', unit: 'x', most: 0.8, value: ratio('run', 'run --rm') },
  {
    what: 'berth-oci run, with the daemon',
    unit: 'x',
    most: 1,
    value: ratio('oci', 'run', 'berth-oci, daemon'),
  },
  {
    what: 'berth-oci create, start, delete, without, of runc',
    unit: 'x',
    most: 1.5,
    value: (rows) => {
      const { 'berth-oci': own, runc } = find(rows, 'oci', 'create')?.of ?? {}
      return own && runc && median(own) / median(runc)
    },
  },
  {
    what: 'pod and container to running, host network',
    unit: 'x',
    most: 0.1,
    value: ratio('cri', START_HOST),
  },
  {
    what: 'the same, bridge',
    unit: 'x',
    most: 0.1,
    value: ratio('cri', 'run, create, start; bridge'),
  },
  {
    what: 'stop and remove, host network',
    unit: 'x',
    most: 0.3,
    value: ratio('cri', 'stop, remove; host'),
  },
  {
    what: 'stop and remove, bridge',
    unit: 'x',
    most: 0.1,
    value: ratio('cri', 'stop, remove; bridge'),
  },
  { what: 'ExecSync of `true`', unit: 'x', most: 0.25, value: ratio('cri', 'ExecSync') },
  {
    what: '10 pods at once, host network',
    unit: 'x',
    most: 0.15,
    value: ratio('cri', '10 pods at once, each; host'),
  },
  {
    what: 'an idle pod without its program, of conmon 0.6x',
    unit: 'KiB',
    most: POD_KIB,
    value: (rows) => {
      const row = rows.find(({ work }) => /^each of \d+ idle pods, without/.test(work))
      return row && median(row.of['berth'] ?? [])
    },
  },
  {
    what: 'the daemon at 300 pods',
    unit: 'MB',
    most: 120,
    value: own('memory', 'the daemon at 300'),
  },
  {
    what: 'ListContainers at 300',
    unit: 'x',
    most: 1,
    value: ratio('scale', 'ListContainers at 300'),
  },
  {
    what: 'ListPodSandbox at 300',
    unit: 'x',
    most: 1,
    value: ratio('scale', 'ListPodSandbox at 300'),
  },
  {
    what: 'ListContainerStats at 300',
    unit: 'x',
    most: 0.05,
    value: ratio('stats', 'ListContainerStats at 300'),
  },
  {
    what: 'ListPodSandboxStats at 300',
    unit: 'x',
    most: 0.05,
    value: ratio('stats', 'ListPodSandboxStats at 300'),
  },
  {
    what: 'pull of nine layers',
    unit: 'x',
    most: 0.45,
    value: ratio('images', 'nine, gzip, cold'),
  },
  { what: 'log throughput', unit: 'x', least: 1.5, value: ratio('logs', 'log of ') },
  {
    what: 'a pod at 300 to one at 1',
    unit: 'x',
    most: 1.3,
    value: both(
      own('scale', 'one more pod at 300'),
      own('scale', 'one more pod at 1 '),
      (a, b) => a / b,
    ),
  },
  {
    what: 'a host network pod over the kernel floor',
    unit: 'ms',
    most: 4,
    value: both(own('cri', START_HOST), floor('cri', START_HOST), (a, b) => a - b),
  },
]

export function judge(rows: readonly Row[]): Judged[] {
  return REQUIRED.map(({ value: of, ...required }) => {
    const value = of(rows)
    const { most = Number.POSITIVE_INFINITY, least = Number.NEGATIVE_INFINITY } = required
    return {
      ...required,
      value,
      isMet: value === undefined ? undefined : value <= most && value >= least,
    }
  })
}
