import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, mkdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { eventually } from '../test/lib/eventually.ts'
import { REPOSITORY } from '../test/lib/images.ts'
import { ENVIRONMENT } from './world.ts'

const DAEMON_MS = 60_000

/** A link to native/front, which does what its name says. Where a bundle is older than what tsc has made since, all would be done by Node, and slowly. */
export function linkFront(directory: string, name: 'berth' | 'berth-oci'): string {
  const dist = (file: string) => statSync(join(REPOSITORY, 'dist', file)).mtimeMs
  if (dist('src/bundle/front.cjs') < dist('.tsbuildinfo'))
    throw new Error('the bundles are older than the build: npm run build:js')
  const program = join(directory, 'bin', name)
  mkdirSync(join(directory, 'bin'), { recursive: true })
  symlinkSync(join(REPOSITORY, 'build/Release/berth-front'), program)
  return program
}

/** A daemon on directories of its own, once it does command lines. */
export async function startDaemon(directory: string, state: string): Promise<ChildProcess> {
  const config = join(directory, 'config.toml')
  writeFileSync(config, '[log]\nlevel = "error"\n[stream]\naddress = "127.0.0.1"\nport = 0\n')
  const args = [
    ...['--root', join(directory, 'root'), '--state', state, 'serve'],
    ...['--config', config, '--socket', join(directory, 'cri.sock')],
  ]
  const daemon = spawn(process.execPath, [join(REPOSITORY, 'bin/berth.cjs'), ...args], {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: ENVIRONMENT,
  })
  const answers = () => existsSync(join(state, 'front.sock'))
  await eventually('the daemon answers', answers, { withinMs: DAEMON_MS, everyMs: 50 })
  return daemon
}
