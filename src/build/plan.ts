import { Fault } from '../base/fault.ts'
import { type Dockerfile, type Instruction, refused, unsupported } from './parse.ts'
import { expandWord, type Lookup, splitPairs, splitWords } from './words.ts'

/** A stage as the Dockerfile has it. */
export interface StagePlan {
  readonly index: number
  /** What it begins with: an image, a stage before it, or `scratch`. Not yet expanded. */
  readonly base: string
  readonly name: string | undefined
  /** FROM --platform. Not yet expanded. */
  readonly platform: string | undefined
  readonly line: number
  readonly steps: readonly Instruction[]
}

export interface BuildPlan {
  readonly escaper: Dockerfile['escaper']
  /** ARGs before the first FROM. */
  readonly globals: readonly Instruction[]
  readonly stages: readonly StagePlan[]
}

const STAGE_NAME = /^[a-z][a-z0-9-_.]*$/

/** Instructions into stages. */
export function planStages({ escaper, instructions }: Dockerfile): BuildPlan {
  const globals: Instruction[] = []
  const stages: (StagePlan & { steps: Instruction[] })[] = []
  for (const step of instructions) {
    const stage = stages.at(-1)
    if (step.keyword === 'FROM') stages.push({ ...fromLine(step, escaper), index: stages.length })
    else if (stage) stage.steps.push(step)
    else if (step.keyword === 'ARG') globals.push(step)
    else throw refused(step.line, `${step.keyword} comes before the first FROM`)
  }
  if (stages.length === 0) throw new Fault('INVALID_ARGUMENT', 'the Dockerfile has no FROM')
  return { escaper, globals, stages }
}

function fromLine(step: Instruction, escaper: Dockerfile['escaper']) {
  const { line, flags, text } = step
  let platform: string | undefined
  for (const flag of flags) {
    if (flag.name !== 'platform')
      throw unsupported(line, `FROM --${flag.name} is not known to berth`)
    platform = flag.value
  }
  const [base = '', as, name, ...more] = splitWords(text, escaper)
  if ((as !== undefined && as.toUpperCase() !== 'AS') || (as && !name) || more.length > 0) {
    throw refused(line, `FROM ${text} is not FROM IMAGE or FROM IMAGE AS NAME`)
  }
  const lower = name?.toLowerCase()
  if (lower !== undefined && !STAGE_NAME.test(lower)) {
    throw refused(
      line,
      `"${name}" is no name for a stage: a letter, then letters, digits, "-", "_" and "."`,
    )
  }
  return { base, name: lower, platform, line, steps: [] as Instruction[] }
}

/** The stage that a name or number means, of those before `before`. The latest of a name counts. */
export function stageBefore(plan: BuildPlan, ref: string, before: number): StagePlan | undefined {
  const earlier = plan.stages.slice(0, before)
  const named = earlier.findLast(({ name }) => name === ref.toLowerCase())
  return named ?? (/^\d+$/.test(ref) ? earlier[Number(ref)] : undefined)
}

/** ARG's names with their defaults, expanded as far as each is read: `ARG a=1 b=$a c`. */
export function* argDefaults(
  step: Instruction,
  escaper: Dockerfile['escaper'],
  lookup: Lookup,
): Generator<[name: string, value: string | undefined]> {
  for (const word of splitWords(step.text, escaper)) {
    const [pair] = word.includes('=') ? splitPairs(word, escaper) : []
    const name = pair?.[0] ?? word
    if (!/^[A-Za-z_][A-Za-z0-9_.-]*$/.test(name))
      throw refused(step.line, `"${name}" is no name for an ARG`)
    yield [name, pair && expandWord(pair[1], lookup, escaper)]
  }
}
