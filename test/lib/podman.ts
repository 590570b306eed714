import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { finish, type Result } from './berth.ts'
import { busyboxRoot } from './busybox.ts'
import { frontMode, frontOfFile } from './front.ts'
import { lacks, PURE_CGROUP_VIEW } from './needs.ts'
import { endFront, ociProgram } from './oci.ts'
import { processesOf, testDirectory } from './traces.ts'

/** Its whole name: a short one is looked up in places that a read-only machine has not. */
export const BOX = 'localhost/box'

/**
 * Debian's podman with berth-oci as its runtime, with a storage of its own and one image, BOX. On a hybrid host it runs in a mount namespace that shows a
 * pure cgroup v2.
 */
export class Podman {
  readonly directory = testDirectory()

  constructor({ cgroupManager = 'cgroupfs' } = {}) {
    const at = (name: string) => join(this.directory, name)
    writeFileSync(
      at('containers.conf'),
      `[containers]
netns = "none"
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
${lacks('cgroup:pids') ? 'pids_limit = 0' : ''}
[network]
network_config_dir = "${at('networks')}"
[engine]
cgroup_manager = "${cgroupManager}"
events_logger = "none"
runtime = "berth-oci"
runtime_supports_json = ["berth-oci"]
[engine.runtimes]
berth-oci = ["${ociProgram()}"]
`,
    )
    writeFileSync(
      at('storage.conf'),
      `[storage]\ndriver = "overlay"\ngraphroot = "${at('graph')}"\nrunroot = "${at('run')}"\n`,
    )
    writeFileSync(at('policy.json'), '{"default":[{"type":"insecureAcceptAnything"}]}')
  }

  async prepare(): Promise<void> {
    const root = join(this.directory, 'rootfs')
    busyboxRoot(root)
    mkdirSync(join(root, 'tmp'))
    await this.ok(
      ['import', '--quiet', `${this.directory}/box.tar`, BOX],
      `tar -C ${root} -cf ${this.directory}/box.tar . && `,
    )
  }

  run(args: readonly string[], before = ''): Promise<Result> {
    const [program = '', ...view] = this.#view()
    const child = spawn(
      program,
      [...view, 'sh', '-c', `${before}exec podman "$@"`, 'sh', ...args],
      {
        env: {
          ...process.env,
          CONTAINERS_CONF: join(this.directory, 'containers.conf'),
          CONTAINERS_STORAGE_CONF: join(this.directory, 'storage.conf'),
          TMPDIR: this.directory,
        },
        stdio: 'pipe',
      },
    )
    return finish(child, `podman ${args.join(' ')}`)
  }

  /** A mount namespace with a pure cgroup v2: with a daemon behind berth-oci, that of the daemon. */
  #view(): string[] {
    const view = ['unshare', '--mount', 'sh', '-c', `${PURE_CGROUP_VIEW}exec "$@"`, 'sh']
    if (frontMode() !== 'daemon') return view
    return ['nsenter', '--target', String(frontOfFile(view)?.pid), '--mount', '--']
  }

  async ok(args: readonly string[], before = ''): Promise<string> {
    const { code, stdout, stderr } = await this.run(args, before)
    assert.is(code, 0, `podman ${args.join(' ')}: exit code ${code}\n${stderr}${stdout}`)
    return stdout.trimEnd()
  }

  async destroy(): Promise<void> {
    await this.run(['pod', 'rm', '--all', '--force'])
    await this.run(['rm', '--all', '--force', '--time', '0'])
    await this.run(['system', 'reset', '--force'])
    const front = frontOfFile()
    // podman calls the runtime in a mount namespace of its own for --uidmap, and one claim runs a directory.
    if (front) await endFront(front, { apart: 1, failed: 1 })
    for (const pid of processesOf([this.directory])) process.kill(pid, 'SIGKILL')
    if (existsSync(this.directory)) rmSync(this.directory, { recursive: true, force: true })
  }
}
