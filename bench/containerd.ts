/** containerd with its CRI, of the bench's own: the peer that every Debian has. */
import { spawn } from 'node:child_process'
import { mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { REPOSITORY } from '../test/lib/images.ts'
import { CriSubject, LOG_CHARACTERS } from './cri-subject.ts'
import { has, preload, quiet } from './engines.ts'
import { ENVIRONMENT, TMPFS } from './world.ts'

const PLUGIN_DIRECTORY = '/usr/lib/cni'
const RUNTIMES = ['crun', 'runc']

/** Why it cannot be measured; undefined where it can. */
export function missingContainerd(): string | undefined {
  const missing = ['containerd', 'containerd-shim-runc-v2', 'g++'].find((name) => !has(name))
  if (missing !== undefined) return `${missing} is not installed`
  return RUNTIMES.some(has) ? undefined : `none of ${RUNTIMES.join(', ')} is installed`
}

/** With its files below `directory` and its state on a tmpfs, as in /run: a subject for each OCI runtime that is there, the first of which has the daemon. */
export async function startContainerd(options: {
  readonly directory: string
  readonly networks: string
  readonly image: string
  readonly pause: string
}): Promise<CriSubject[]> {
  const at = (name: string) => join(options.directory, 'containerd', name)
  mkdirSync(at('.'), { recursive: true })
  const runtimes = RUNTIMES.filter(has)
  const sections = runtimes.map(
    (name) => `[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.${name}]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.${name}.options]
BinaryName = "${runtime(name, options.directory)}"
`,
  )
  const config = `version = 2
root = "${at('root')}"
state = "${join(TMPFS, 'containerd')}"
[grpc]
address = "${at('socket')}"
[ttrpc]
address = "${at('ttrpc')}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "${options.pause}"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "${PLUGIN_DIRECTORY}"
conf_dir = "${options.networks}"
[plugins."io.containerd.grpc.v1.cri".containerd]
default_runtime_name = "${runtimes[0]}"
${sections.join('')}`
  writeFileSync(at('config.toml'), config)
  const log = openSync(at('log'), 'w')
  const daemon = () =>
    spawn('containerd', ['--config', at('config.toml')], {
      stdio: ['ignore', log, log],
      env: ENVIRONMENT,
    })
  const subjects = runtimes.map(
    (name, i) =>
      new CriSubject({
        name: `containerd, ${name}`,
        socket: at('socket'),
        handler: name,
        image: options.image,
        ...(i === 0 ? { daemon } : {}),
      }),
  )
  try {
    await subjects[0]?.start()
    return subjects
  } catch (error) {
    const text = readFileSync(at('log'), 'utf8').slice(-LOG_CHARACTERS)
    throw new Error(`containerd does not answer: ${text}`, { cause: error })
  }
}

/** It is given `cpu.shares`, which ends with an error where the v2 hierarchy has no cpu controller: a small program takes them out there. */
function runtime(name: string, directory: string): string {
  const settings = Object.entries(preload(directory, name)).map(([key, value]) => `${key}=${value}`)
  const hasCpu = readFileSync('/sys/fs/cgroup/cgroup.controllers', 'utf8')
    .split(/\s/)
    .includes('cpu')
  if (hasCpu && settings.length === 0) return name
  const program = join(directory, name)
  const source = join(REPOSITORY, 'bench/runtime-without-cpu.cc')
  const macros = [`-DSETTING="${settings[0] ?? ''}"`, `-DRUNTIME="${name}"`]
  quiet(['g++'], '-O2', '-static', '-std=c++20', ...macros, source, '-o', program)
  return program
}
