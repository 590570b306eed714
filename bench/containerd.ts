/** containerd with its CRI, of the bench's own: the peer that every Debian has. */
import { spawn } from 'node:child_process'
import { mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { REPOSITORY } from '../test/lib/images.ts'
import { lacks } from '../test/lib/needs.ts'
import { CriSubject, LOG_CHARACTERS } from './cri-subject.ts'
import { has, preload, quiet } from './engines.ts'
import { ENVIRONMENT } from './world.ts'

const PLUGIN_DIRECTORY = '/usr/lib/cni'

/** Why it cannot be measured; undefined where it can. */
export function missingContainerd(): string | undefined {
  const missing = ['containerd', 'containerd-shim-runc-v2', 'crun', 'g++'].find(
    (name) => !has(name),
  )
  return missing && `${missing} is not installed`
}

/** With its files below `directory`, and crun below its shim. */
export async function startContainerd(options: {
  readonly directory: string
  readonly networks: string
  readonly image: string
  readonly pause: string
}): Promise<CriSubject> {
  const at = (name: string) => join(options.directory, 'containerd', name)
  mkdirSync(at('.'), { recursive: true })
  const config = `version = 2
root = "${at('root')}"
state = "${at('state')}"
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
default_runtime_name = "crun"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.crun]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.crun.options]
BinaryName = "${crun(options.directory)}"
`
  writeFileSync(at('config.toml'), config)
  const log = openSync(at('log'), 'w')
  const subject = new CriSubject({
    name: 'containerd, crun',
    socket: at('socket'),
    handler: '',
    image: options.image,
    daemon: () =>
      spawn('containerd', ['--config', at('config.toml')], {
        stdio: ['ignore', log, log],
        env: ENVIRONMENT,
      }),
  })
  try {
    await subject.start()
    return subject
  } catch (error) {
    const text = readFileSync(at('log'), 'utf8').slice(-LOG_CHARACTERS)
    throw new Error(`containerd does not answer: ${text}`, { cause: error })
  }
}

/** It is given `cpu.shares`, which ends with an error where the host's v2 hierarchy has no cpu controller: a small program takes them out there. */
function crun(directory: string): string {
  const settings = Object.entries(preload(directory, 'crun')).map(
    ([key, value]) => `${key}=${value}`,
  )
  if (!lacks('cgroup:cpu') && settings.length === 0) return 'crun'
  const program = join(directory, 'crun')
  const source = join(REPOSITORY, 'bench/crun-without-cpu.cc')
  const macro = `-DSETTING="${settings[0] ?? ''}"`
  quiet(['g++'], '-O2', '-static', '-std=c++20', macro, source, '-o', program)
  return program
}
