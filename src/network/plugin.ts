import { accessSync, constants, statSync } from 'node:fs'
import { Socket } from 'node:net'
import { join } from 'node:path'
import { Fault } from '../base/fault.ts'
import { binding, type ExitStatus } from '../kernel/binding.ts'
import { Fd } from '../kernel/fd.ts'
import { isObject } from './conf.ts'

export const PLUGIN_DIRECTORIES: readonly string[] = [
  '/opt/cni/bin',
  '/usr/lib/cni',
  '/usr/libexec/cni',
]
export const PLUGIN_TIMEOUT_MS = 60_000
export const PLUGIN_OUTPUT_BYTES_MAX = 1024 * 1024
/** Of what a plugin says on stderr, the last bytes are kept for the error. */
const STDERR_BYTES_KEPT = 4096
/** How long a killed plugin may take to end. One that hangs in the kernel does not end, and must not hold a pod's removal. */
const KILL_WAIT_MS = 1000
/** Plugins whose versions are remembered: more than any host has. */
const VERSIONS_KEPT_MAX = 256

/** What Debian's containernetworking-plugins holds. Others come with their network's own installation. */
const STANDARD_PLUGINS =
  /^(bandwidth|bridge|dhcp|dummy|firewall|host-device|host-local|ipvlan|loopback|macvlan|portmap|ptp|sbr|static|tap|tuning|vlan|vrf)$/

export type CniCommand = 'ADD' | 'DEL' | 'CHECK' | 'STATUS' | 'GC' | 'VERSION'

export interface PluginCall {
  readonly command: CniCommand
  readonly type: string
  /** Where plugins are looked for, in order; also handed to the plugin for its own delegates (IPAM). */
  readonly directories: readonly string[]
  readonly config: Readonly<Record<string, unknown>>
  readonly containerId?: string
  /** '' for DEL where the namespace is gone. */
  readonly netns?: string
  readonly ifname?: string
  /** `K=V` pairs of CNI_ARGS. */
  readonly args?: readonly string[]
  readonly timeoutMs?: number
  readonly signal?: AbortSignal
}

/** What a plugin itself says of its failure (CNI specification, "Error"). `status` is its code: 7 invalid config, 11 try again later … */
export class PluginFault extends Fault {
  readonly status: number

  constructor(message: string, status: number) {
    // 11: try again later; 50 and 51: STATUS, not available and of limited use.
    super([11, 50, 51].includes(status) ? 'UNAVAILABLE' : 'INTERNAL', message)
    this.status = status
  }
}

/** There is no such plugin on this host. */
export class MissingPlugin extends Fault {
  constructor(type: string, directories: readonly string[]) {
    const how = STANDARD_PLUGINS.test(type)
      ? 'install it (Debian: apt-get install containernetworking-plugins)'
      : 'what installs the network brings it along'
    super(
      'FAILED_PRECONDITION',
      `CNI plugin "${type}" is in none of ${directories.join(', ')}: ${how}`,
    )
  }
}

/** The absolute path of a plugin. MissingPlugin names the package that holds the standard ones. */
export function findPlugin(type: string, directories: readonly string[]): string {
  for (const directory of directories) {
    const path = join(directory, type)
    try {
      accessSync(path, constants.X_OK)
      return path
    } catch {
      // Looked for in the next directory.
    }
  }
  throw new MissingPlugin(type, directories)
}

/**
 * Runs a plugin once and gives its JSON output; undefined where it says nothing. A plugin that fails gives a
 * PluginFault, one that does not end in time is killed with all it started (DEADLINE_EXCEEDED).
 */
export async function callPlugin(call: PluginCall): Promise<unknown> {
  const path = findPlugin(call.type, call.directories)
  const what = `CNI plugin ${call.type} (${call.command})`
  const { code, signal, stdout, stderr } = await execute(path, what, call)
  if (code === 0) {
    const text = stdout.trim()
    return text === '' ? undefined : parse(text, what)
  }
  const said = stderr.trim() === '' ? '' : `: ${stderr.trim()}`
  const error = parseError(stdout)
  if (error) {
    const details = error.details === '' ? '' : `: ${error.details}`
    throw new PluginFault(`${what} failed: ${error.message}${details}${said}`, error.code)
  }
  const how = signal === 0 ? `exit status ${code}` : `killed by signal ${signal}`
  throw new PluginFault(`${what} failed without a reason (${how})${said}`, 0)
}

/** By path, as long as the file is the same one. */
const versionsKept = new Map<string, { readonly file: string; readonly versions: string[] }>()

/** The versions of the specification that a plugin knows. Asked once, and again when its program has changed. */
export async function pluginVersions(
  type: string,
  directories: readonly string[],
): Promise<readonly string[]> {
  const path = findPlugin(type, directories)
  const { ino, size, mtimeMs, ctimeMs } = statSync(path)
  const file = `${ino} ${size} ${mtimeMs} ${ctimeMs}`
  const known = versionsKept.get(path)
  if (known?.file === file) return known.versions
  const answer = await callPlugin({
    command: 'VERSION',
    type,
    directories,
    config: { cniVersion: '1.0.0' },
    timeoutMs: 10_000,
  })
  const said = isObject(answer) ? answer['supportedVersions'] : undefined
  // "supportedVersions" is younger than the call: without it the plugin knows the first version only.
  const versions = Array.isArray(said) ? said.filter((v) => typeof v === 'string') : ['0.1.0']
  if (versionsKept.size >= VERSIONS_KEPT_MAX) versionsKept.clear()
  versionsKept.set(path, { file, versions })
  return versions
}

interface Ended extends ExitStatus {
  readonly stdout: string
  readonly stderr: string
}

/** The process of a plugin with our ends of its pipes. */
interface Process {
  readonly pid: number
  readonly status: Promise<ExitStatus>
  readonly stdin: Socket
  readonly stdout: Socket
  readonly stderr: Socket
}

function execute(path: string, what: string, call: PluginCall): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = start(path, what, call)
    const stdout: Buffer[] = []
    let stdoutBytes = 0
    let stderr = Buffer.alloc(0)
    let failure: Fault | undefined
    const giveUp = (fault: Fault): void => {
      if (failure !== undefined) return
      failure = fault
      killGroup(child.pid)
      // A grandchild that left the group may hold the pipes: they must not hold us.
      child.stdin.destroy()
      child.stdout.destroy()
      child.stderr.destroy()
      setTimeout(() => {
        finish()
        reject(new Fault(fault.code, `${fault.message}, and cannot be killed`))
      }, KILL_WAIT_MS).unref()
    }
    const timeoutMs = call.timeoutMs ?? PLUGIN_TIMEOUT_MS
    const timer = setTimeout(
      () => giveUp(new Fault('DEADLINE_EXCEEDED', `${what} did not end within ${timeoutMs} ms`)),
      timeoutMs,
    )
    const aborted = (): void => giveUp(new Fault('UNAVAILABLE', `${what} was cancelled`))
    call.signal?.addEventListener('abort', aborted, { once: true })
    if (call.signal?.aborted) aborted()
    const finish = (): void => {
      clearTimeout(timer)
      call.signal?.removeEventListener('abort', aborted)
      child.stdin.destroy()
    }
    child.stdout.on('data', (chunk: Buffer) => {
      stdoutBytes += chunk.length
      if (stdoutBytes <= PLUGIN_OUTPUT_BYTES_MAX) stdout.push(chunk)
      else
        giveUp(
          new Fault(
            'RESOURCE_EXHAUSTED',
            `${what} wrote more than ${PLUGIN_OUTPUT_BYTES_MAX} bytes`,
          ),
        )
    })
    child.stderr.on('data', (chunk: Buffer) => {
      stderr = Buffer.concat([stderr, chunk]).subarray(-STDERR_BYTES_KEPT)
    })
    // A plugin need not read its configuration: EPIPE is no failure of the call.
    child.stdin.on('error', () => {})
    child.stdin.end(JSON.stringify(call.config))
    Promise.all([child.status, closed(child.stdout), closed(child.stderr)]).then(([status]) => {
      finish()
      if (failure) reject(failure)
      else {
        resolve({
          ...status,
          stdout: Buffer.concat(stdout).toString('utf8'),
          stderr: stderr.toString('utf8'),
        })
      }
    }, reject)
  })
}

/**
 * In a process group of its own, so that a delegate (IPAM) that hangs is killed with it. By the addon, not node:child_process, which forks:
 * that copies the page tables of all of Node, 1 ms for each plugin at the least and 6 ms with 200 MB of heap. Not in a session of its own: where the
 * kernel schedules by session (autogroup), a new one starts from nothing, and the plugins took a third longer.
 */
function start(path: string, what: string, call: PluginCall): Process {
  const ours: Fd[] = []
  const theirs: Fd[] = []
  try {
    for (const fd of [0, 1, 2]) {
      const { read, write } = binding.pipe()
      theirs.push(new Fd(fd === 0 ? read : write))
      ours.push(new Fd(fd === 0 ? write : read))
    }
    const { pid, status } = binding.spawn({
      file: path,
      args: [path],
      env: environment(call),
      fds: theirs.map((fd) => fd.number),
      group: true,
      directory: '/',
    })
    const [stdin, stdout, stderr] = ours.map(
      (fd, i) => new Socket({ fd: fd.release(), readable: i > 0, writable: i === 0 }),
    )
    if (!stdin || !stdout || !stderr) throw new Fault('INTERNAL', 'a pipe is missing')
    return { pid, status, stdin, stdout, stderr }
  } catch (error) {
    throw new Fault('INTERNAL', `cannot execute ${what} at ${path}`, { cause: error })
  } finally {
    for (const fd of [...theirs, ...ours]) fd.close()
  }
}

const closed = (socket: Socket): Promise<void> =>
  new Promise((resolve) => {
    socket.on('error', () => {})
    socket.once('close', () => resolve())
  })

/** Only what the specification names, and a PATH: plugins call iptables by name. */
function environment(call: PluginCall): string[] {
  const env: Record<string, string> = {
    PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    CNI_COMMAND: call.command,
    CNI_PATH: call.directories.join(':'),
  }
  if (call.containerId !== undefined) env['CNI_CONTAINERID'] = call.containerId
  if (call.netns !== undefined) env['CNI_NETNS'] = call.netns
  if (call.ifname !== undefined) env['CNI_IFNAME'] = call.ifname
  if (call.args !== undefined && call.args.length > 0) env['CNI_ARGS'] = call.args.join(';')
  return Object.entries(env).map(([name, value]) => `${name}=${value}`)
}

function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // Already gone.
  }
}

function parse(text: string, what: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new Fault('INTERNAL', `${what} gave no valid JSON: ${text.slice(0, 200)}`, {
      cause: error,
    })
  }
}

function parseError(
  stdout: string,
): { code: number; message: string; details: string } | undefined {
  try {
    const value: unknown = JSON.parse(stdout)
    if (!isObject(value) || typeof value['msg'] !== 'string') return undefined
    const { code, msg, details } = value
    return {
      code: typeof code === 'number' ? code : 0,
      message: msg,
      details: typeof details === 'string' ? details : '',
    }
  } catch {
    return undefined
  }
}
