/** What berth has to be, as figures that follow from a run's rows. */
import { bestPeer, FLOOR, median, number, type Row, summaryOf } from './report.ts'

/** What was found of a wanted figure. */
export interface Figure {
  readonly value: number
  /** Ours, and what it is compared with: texts with their units. */
  readonly ours: string
  readonly other: string
  /** Among all that did the work, where it is one work. */
  readonly place: string
}

/** The goals that count now, or those that were to be met on the way to them. */
export type Goals = 'now' | 'before'

interface Goal {
  readonly goals: Goals
  readonly what: string
  /** What the figure counts: `x` is a ratio. */
  readonly unit: 'x' | 'KiB' | 'MB' | 'ms'
  readonly most?: number
  readonly least?: number
}

type Find = (rows: readonly Row[]) => Figure | undefined

export interface Judged extends Goal {
  /** undefined: not measured in this run. */
  readonly figure: Figure | undefined
  readonly isMet: boolean | undefined
}

const find = (rows: readonly Row[], suite: string, begin: string) =>
  rows.find((row) => row.suite === suite && row.work.startsWith(begin))

const textOf = (value: number, unit: string) => `${number(value)} ${unit}`

/** Of one of ours, to this peer, or to the best one. */
function ratio(suite: string, begin: string, subject = 'berth', peer?: string): Find {
  return (rows) => {
    const row = find(rows, suite, begin)
    const values = row?.of[subject]
    if (!row || !values) return undefined
    const named = peer === undefined ? undefined : row.of[peer]
    const other = peer === undefined ? bestPeer(row) : named && { name: peer, value: median(named) }
    return (
      other && {
        value: median(values) / other.value,
        ours: textOf(median(values), row.unit),
        other: `${other.name} ${textOf(other.value, row.unit)}`,
        place: placeOf(row, subject),
      }
    )
  }
}

function placeOf(row: Row, subject: string): string {
  return summaryOf(row).find((one) => one.subject === subject)?.place ?? ''
}

/** What it is, whatever others are: the largest of these works. */
function own(suite: string, work: RegExp): Find {
  return (rows) => {
    const figures = rows.flatMap((row): Figure[] => {
      const values = row.of['berth']
      if (row.suite !== suite || !work.test(row.work) || !values) return []
      const best = bestPeer(row)
      return [
        {
          value: median(values),
          ours: textOf(median(values), row.unit),
          other: best ? `${best.name} ${textOf(best.value, row.unit)}` : '',
          place: placeOf(row, 'berth'),
        },
      ]
    })
    return highest(figures)
  }
}

const highest = (figures: readonly Figure[]): Figure | undefined =>
  figures.toSorted((a, b) => b.value - a.value)[0]

/** Where there are several works, the one that is farthest from its goal. */
function largest(...all: readonly Find[]): Find {
  return (rows) => highest(all.flatMap((one) => one(rows) ?? []))
}

/** With 100 pods of CRI-O 1.37, where no runtime of this run has conmon for its pods. */
const CONMON_KIB = 257
/** A pod that takes more beside its program has a shim. */
const CONMON_KIB_MAX = 1024

/** Of what exists for each pod, to the same where that is conmon. */
function ofConmon(work: RegExp): Find {
  return (rows) => {
    const row = rows.find((one) => one.suite === 'memory' && work.test(one.work))
    const values = row?.of['berth']
    if (!row || !values) return undefined
    const best = bestPeer(row)
    const conmon =
      best && best.value <= CONMON_KIB_MAX ? best : { name: 'conmon elsewhere', value: CONMON_KIB }
    return {
      value: median(values) / conmon.value,
      ours: textOf(median(values), row.unit),
      other: `${conmon.name} ${textOf(conmon.value, row.unit)}`,
      place: placeOf(row, 'berth'),
    }
  }
}

/** Of two works of ours, or of one and the kernel's. */
function both(
  first: { readonly suite: string; readonly begin: string },
  second: { readonly suite: string; readonly begin: string; readonly subject: string },
  of: (a: number, b: number) => number,
): Find {
  return (rows) => {
    const row = find(rows, first.suite, first.begin)
    const values = row?.of['berth']
    const others = find(rows, second.suite, second.begin)?.of[second.subject]
    if (!row || !values || !others) return undefined
    return {
      value: of(median(values), median(others)),
      ours: textOf(median(values), row.unit),
      other: `${second.subject === 'berth' ? second.begin.trim() : second.subject} ${textOf(median(others), row.unit)}`,
      place: placeOf(row, 'berth'),
    }
  }
}

const START_HOST = 'run, create, start; host network'
const START_BRIDGE = 'run, create, start; bridge network'
const STOP_HOST = 'stop, remove; host network'
const STOP_BRIDGE = 'stop, remove; bridge network'
const AT_ONCE_HOST = '10 pods at once, each; host network'
const AT_ONCE_BRIDGE = '10 pods at once, each; bridge network'
const CREATE = 'create, start, delete'
const TINY = ['gzip', 'zstd'].flatMap((by) => [
  ratio('images', `tiny, ${by}, cold`),
  ratio('images', `tiny, ${by}, half of the layers there`),
])

const NOW: readonly (Omit<Goal, 'goals'> & { readonly find: Find })[] = [
  {
    what: 'berth run --rm --net none, with the daemon',
    unit: 'x',
    most: 0.1,
    find: ratio('run', 'run --rm', 'berth, daemon'),
  },
  { what: 'the same, without', unit: 'x', most: 0.8, find: ratio('run', 'run --rm') },
  {
    what: 'berth-oci run, with the daemon, to crun',
    unit: 'x',
    most: 1,
    find: ratio('oci', 'run', 'berth-oci, daemon', 'crun'),
  },
  {
    what: 'pod and container to running, host network',
    unit: 'x',
    most: 0.1,
    find: ratio('cri', START_HOST),
  },
  { what: 'the same, bridge', unit: 'x', most: 0.1, find: ratio('cri', START_BRIDGE) },
  { what: 'stop and remove, bridge', unit: 'x', most: 0.1, find: ratio('cri', STOP_BRIDGE) },
  { what: 'ExecSync of `true`', unit: 'x', most: 0.25, find: ratio('cri', 'ExecSync') },
  {
    what: '10 pods at once, each, host network',
    unit: 'x',
    most: 0.15,
    find: ratio('cri', AT_ONCE_HOST),
  },
  {
    what: 'memory of an idle pod, to conmon',
    unit: 'x',
    most: 0.6,
    find: ofConmon(/^each of \d+ idle pods, without/),
  },
  {
    what: 'memory of the daemon at 300 pods',
    unit: 'MB',
    most: 120,
    find: own('memory', /^the daemon at 300 /),
  },
  {
    what: 'list calls at 300 containers',
    unit: 'x',
    most: 1,
    find: largest(ratio('scale', 'ListContainers at 300'), ratio('scale', 'ListPodSandbox at 300')),
  },
  {
    what: 'stats calls at 300 containers',
    unit: 'x',
    most: 0.05,
    find: largest(
      ratio('stats', 'ListContainerStats at 300'),
      ratio('stats', 'ListPodSandboxStats at 300'),
    ),
  },
  {
    what: 'pull and unpack of nine layers',
    unit: 'x',
    most: 0.45,
    find: ratio('images', 'nine, gzip, cold'),
  },
  // With the daemon, where the commands around it take no time: the monitor that writes it is the same.
  {
    what: 'log throughput, lines of 100 bytes',
    unit: 'x',
    least: 1.5,
    find: ratio('logs', 'log of ', 'berth, daemon'),
  },
  {
    what: 'time of a pod at 300 pods, to that at 1',
    unit: 'x',
    most: 1.3,
    find: both(
      { suite: 'scale', begin: 'one more pod at 300 ' },
      { suite: 'scale', begin: 'one more pod at 1 ', subject: 'berth' },
      (a, b) => a / b,
    ),
  },
  {
    what: 'a host network pod, over the kernel floor',
    unit: 'ms',
    most: 4,
    find: both(
      { suite: 'cri', begin: START_HOST },
      { suite: 'cri', begin: START_HOST, subject: FLOOR },
      (a, b) => a - b,
    ),
  },
]

const BEFORE: readonly (Omit<Goal, 'goals'> & { readonly find: Find })[] = [
  {
    what: 'pod and container to running, host network',
    unit: 'x',
    most: 0.25,
    find: ratio('cri', START_HOST),
  },
  { what: 'the same, bridge', unit: 'x', most: 0.7, find: ratio('cri', START_BRIDGE) },
  { what: 'stop and remove, host network', unit: 'x', most: 0.3, find: ratio('cri', STOP_HOST) },
  { what: 'the same, bridge', unit: 'x', most: 0.7, find: ratio('cri', STOP_BRIDGE) },
  { what: 'ExecSync of `true`', unit: 'x', most: 0.4, find: ratio('cri', 'ExecSync') },
  {
    what: '10 pods at once, each, host network',
    unit: 'x',
    most: 0.3,
    find: ratio('cri', AT_ONCE_HOST),
  },
  { what: 'the same, bridge', unit: 'x', most: 0.7, find: ratio('cri', AT_ONCE_BRIDGE) },
  {
    what: 'ListContainers at 100',
    unit: 'x',
    most: 1.5,
    find: ratio('scale', 'ListContainers at 100'),
  },
  {
    what: 'ListContainerStats at 100',
    unit: 'x',
    most: 0.2,
    find: ratio('stats', 'ListContainerStats at 100'),
  },
  {
    what: 'memory of an idle pod with its program, to CRI-O',
    unit: 'x',
    most: 1.2,
    find: ofConmon(/^each of \d+ idle pods \(/),
  },
  {
    what: 'memory of the daemon at 100 pods',
    unit: 'MB',
    most: 150,
    find: own('memory', /^the daemon at 100 /),
  },
  {
    what: 'pull of nine layers',
    unit: 'x',
    most: 0.6,
    find: ratio('images', 'nine, gzip, cold'),
  },
  {
    what: 'pull of one large layer',
    unit: 'x',
    most: 1,
    find: largest(ratio('images', 'one, gzip, cold'), ratio('images', 'one, zstd, cold')),
  },
  { what: 'pulls of tiny layers', unit: 'x', most: 1, find: largest(...TINY) },
  {
    what: 'memory of a pull',
    unit: 'MB',
    most: 250,
    find: own('images', /: memory$/),
  },
  {
    what: 'berth-oci create, start, delete, with the daemon, to crun',
    unit: 'x',
    most: 1,
    find: ratio('oci', CREATE, 'berth-oci, daemon', 'crun'),
  },
  {
    what: 'the same without, to runc',
    unit: 'x',
    most: 1.5,
    find: ratio('oci', CREATE, 'berth-oci', 'runc'),
  },
]

export function judge(rows: readonly Row[]): Judged[] {
  const all = [
    ...NOW.map((goal) => ({ goals: 'now' as const, ...goal })),
    ...BEFORE.map((goal) => ({ goals: 'before' as const, ...goal })),
  ]
  return all.map(({ find, ...goal }) => {
    const figure = find(rows)
    const { most = Number.POSITIVE_INFINITY, least = Number.NEGATIVE_INFINITY } = goal
    const isMet = figure && figure.value <= most && figure.value >= least
    return { ...goal, figure, isMet }
  })
}

const withUnit = (text: string | number, { unit }: Goal): string =>
  unit === 'x' ? `${text}x` : `${text} ${unit}`

/** With digits enough for a small ratio to be told from what is required of it. */
export function isOf(judged: Judged): string {
  const { figure, unit } = judged
  if (!figure) return ''
  const { value } = figure
  return withUnit(unit === 'x' && value < 1 ? value.toFixed(3) : number(value), judged)
}

export const wantedOf = (goal: Goal): string =>
  `${goal.most === undefined ? 'at least' : 'at most'} ${withUnit(goal.most ?? goal.least ?? '', goal)}`

/** A line for each of these goals, below the names of the columns. */
export function judgement(judged: readonly Judged[], goals: Goals): string[][] {
  const head = ['work', 'is', 'required', '', 'berth', 'compared with', 'place']
  const lines = judged
    .filter((one) => one.goals === goals)
    .map((one) => {
      const { figure, isMet } = one
      const verdict = isMet === undefined ? 'not measured' : isMet ? 'met' : 'MISSED'
      const found = [figure?.ours ?? '', figure?.other ?? '', figure?.place ?? '']
      return [one.what, isOf(one), wantedOf(one), verdict, ...found]
    })
  return [head, ...lines]
}
