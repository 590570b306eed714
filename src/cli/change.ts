import type { Option } from 'commander'
import { Fault } from '../base/fault.ts'
import { changedBy, envOf, type RunConfig } from '../build/config.ts'
import { type Instruction, instruction } from '../build/parse.ts'
import { option } from './output.ts'

/** --change, of the commands that make an image without a Dockerfile. */
export function changeOption(): Option {
  return option(
    '-c, --change <instruction>',
    'CMD, ENTRYPOINT, ENV, LABEL, USER, WORKDIR, EXPOSE, VOLUME and their like, as in a Dockerfile',
    parseChange,
    'many',
  )
}

/** An instruction of --change, read as a Dockerfile's. */
export function parseChange(text: string): Instruction {
  const step = instruction(text, 1)
  if (CHANGES.has(step.keyword)) return step
  throw new Fault('UNIMPLEMENTED', `instruction ${step.keyword} is not supported`)
}

const CHANGES = new Set(
  'CMD ENTRYPOINT ENV EXPOSE HEALTHCHECK LABEL ONBUILD SHELL STOPSIGNAL USER VOLUME WORKDIR'.split(
    ' ',
  ),
)

/** The image's defaults as the instructions of --change make them. */
export function changedConfig(changes: readonly Instruction[], before: RunConfig = {}): RunConfig {
  let config = before
  for (const step of changes) {
    const env = envOf(config)
    const lookup = (name: string): string | undefined => env.get(name)
    // The command before is the container's: a new ENTRYPOINT leaves it, as in docker commit.
    config = changedBy(config, step, { lookup, escaper: '\\', hasCommand: true }) ?? config
  }
  return config
}
