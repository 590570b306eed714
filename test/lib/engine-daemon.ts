import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, openSync, readFileSync, rmdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { finish, type Result } from './berth.ts'
import { busyboxRoot } from './busybox.ts'
import { eventually } from './eventually.ts'
import { frontOfFile } from './front.ts'
import { cgroupRoot, PURE_CGROUP_VIEW } from './needs.ts'
import { processesOf, testDirectory } from './traces.ts'

/**
 * A daemon of Debian's (containerd, dockerd) with its files in a directory of its own, in a mount namespace where cgroup v2 is all there is and the places
 * that these daemons know by name are empty.
 */
export class EngineDaemon {
  readonly directory = testDirectory()
  readonly rootfs = join(this.directory, 'rootfs')
  #daemon: ChildProcess | undefined

  constructor() {
    busyboxRoot(this.rootfs)
  }

  async start(args: readonly string[], isUp: () => Promise<boolean>): Promise<void> {
    const run = 'mkdir -p /run/containerd && mount -t tmpfs tmpfs /run/containerd && exec "$@"'
    const log = openSync(join(this.directory, 'log'), 'w')
    this.#daemon = spawn(
      'unshare',
      ['--mount', 'sh', '-c', `${PURE_CGROUP_VIEW}${run}`, 'sh', ...args],
      {
        stdio: ['ignore', log, log],
      },
    )
    closeSync(log)
    try {
      await eventually('the daemon answers', isUp, { withinMs: 30_000, everyMs: 200 })
    } catch (error) {
      throw new Error(readFileSync(join(this.directory, 'log'), 'utf8'), { cause: error })
    }
    frontOfFile(['nsenter', '--target', String(this.#daemon.pid), '--mount', '--'])
  }

  /** A client, in the daemon's mount namespace. */
  run(args: readonly string[]): Promise<Result> {
    const inside = ['--target', String(this.#daemon?.pid), '--mount', '--', ...args]
    return finish(spawn('nsenter', inside, { stdio: 'pipe' }), args.join(' '))
  }

  async ok(args: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await this.run(args)
    assert.is(code, 0, `${args.join(' ')}: exit code ${code}\n${stderr}${stdout}`)
    return stdout.trimEnd()
  }

  /** `groups`: the cgroups that the daemon makes for all its containers, and leaves. */
  async destroy(groups: readonly string[]): Promise<void> {
    const daemon = this.#daemon
    if (daemon && daemon.exitCode === null) {
      const ended = new Promise((resolve) => daemon.once('exit', resolve))
      daemon.kill('SIGTERM')
      await ended
    }
    for (const pid of processesOf([this.directory])) process.kill(pid, 'SIGKILL')
    await eventually('the processes are gone', () => processesOf([this.directory]).length === 0)
    rmSync(this.directory, { recursive: true, force: true, maxRetries: 3 })
    for (const group of groups) rmdirSync(join(cgroupRoot(), group))
  }
}
