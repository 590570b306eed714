import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fetchedCriu } from '../../scripts/criu.ts'
import { needs } from './needs.ts'

/** An environment with the CRIU that scripts/criu.ts has fetched, else the system's. Ends the file, as a skip, where there is none, or none that this kernel can have. */
export function criuEnvironment(): NodeJS.ProcessEnv {
  const own = existsSync(join(fetchedCriu(), 'criu'))
  const env = own
    ? { ...process.env, PATH: `${fetchedCriu()}:${process.env['PATH'] ?? ''}` }
    : process.env
  if (!own) needs('program:criu')
  const { status, stderr } = spawnSync('criu', ['check'], { env, encoding: 'utf8' })
  if (status === 0) return env
  const said = stderr.trim().split('\n').at(-1) ?? ''
  process.stdout.write(`# skipped (kernel): CRIU does not work here: ${said}\n`)
  process.exit(0)
}
