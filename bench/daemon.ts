import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { eventually } from '../test/lib/eventually.ts'
import { REPOSITORY } from '../test/lib/images.ts'
import { ENVIRONMENT } from './world.ts'

const DAEMON_MS = 60_000

/** A link to native/front, which does what its name says. */
export function linkFront(directory: string, name: 'berth' | 'berth-oci'): string {
  const program = join(directory, 'bin', name)
  mkdirSync(join(directory, 'bin'), { recursive: true })
  symlinkSync(join(REPOSITORY, 'build/Release/berth-front'), program)
  return program
}

/** A daemon on directories of its own, once it does command lines. */
export async function startDaemon(directory: string): Promise<ChildProcess> {
  const config = join(directory, 'config.toml')
  writeFileSync(config, '[log]\nlevel = "error"\n[stream]\naddress = "127.0.0.1"\nport = 0\n')
  const args = [
    ...['--root', join(directory, 'root'), '--state', join(directory, 'state'), 'serve'],
    ...['--config', config, '--socket', join(directory, 'cri.sock')],
  ]
  const daemon = spawn(process.execPath, [join(REPOSITORY, 'bin/berth.cjs'), ...args], {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: ENVIRONMENT,
  })
  const answers = () => existsSync(join(directory, 'state/front.sock'))
  await eventually('the daemon answers', answers, { withinMs: DAEMON_MS, everyMs: 50 })
  return daemon
}
