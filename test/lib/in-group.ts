import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** A shell that runs `script` as a process of the cgroup. It has begun when this resolves; its first line of output, `in`, is read. */
export async function inGroup(
  directory: string,
  script: string,
): Promise<ChildProcessWithoutNullStreams> {
  const child = spawn('/bin/sh', ['-c', `read _; echo in; ${script}`])
  writeFileSync(join(directory, 'cgroup.procs'), String(child.pid))
  child.stdin.write('\n')
  await once(child.stdout, 'data')
  return child
}
