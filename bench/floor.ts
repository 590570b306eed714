/** What the kernel alone needs: bench/floor.cc, built where g++ is there. */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { busyboxRoot } from '../test/lib/busybox.ts'
import { REPOSITORY } from '../test/lib/images.ts'
import { timeOf } from './commands.ts'
import { has, quiet } from './engines.ts'
import { FLOOR, leftOut } from './report.ts'

export interface Floor {
  /** Milliseconds of a command that runs a program to its end. */
  readonly run: () => number
  /** From nothing to a running container in a pod on the host's network. */
  readonly pod: () => number
}

export function kernelFloor(directory: string): Floor | undefined {
  if (!has('g++')) {
    leftOut(FLOOR, 'g++ is not installed')
    return undefined
  }
  const at = (name: string) => join(directory, 'floor', name)
  for (const name of ['upper', 'work', 'target']) mkdirSync(at(name), { recursive: true })
  busyboxRoot(at('root'))
  for (const name of ['proc', 'sys', 'dev']) mkdirSync(join(at('root'), name))
  const source = join(REPOSITORY, 'bench/floor.cc')
  quiet(['g++', '-O2', '-static', '-std=c++20'], source, '-o', at('floor'))
  const paths = [at('root'), at('upper'), at('work'), at('target')]
  const pod = [at('floor'), 'pod', ...paths, '/bin/sleep', '/sys/fs/cgroup/floor']
  return {
    run: () => timeOf([[at('floor'), 'run', ...paths, '/bin/true']]),
    pod: () => Number(quiet(pod)) / 1000,
  }
}
