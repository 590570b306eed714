import { spawn } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { join } from 'node:path'
import { Fault } from '../base/fault.ts'
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

/** The absolute path of a plugin. FAILED_PRECONDITION names the package that holds the standard ones. */
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
  throw new Fault(
    'FAILED_PRECONDITION',
    `CNI plugin "${type}" is in none of ${directories.join(', ')}: install it (Debian: apt-get install containernetworking-plugins), or use --net none or --net host`,
  )
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
  const how = signal === null ? `exit status ${code}` : `killed by ${signal}`
  throw new PluginFault(`${what} failed without a reason (${how})${said}`, 0)
}

/** The versions of the specification that a plugin knows. */
export async function pluginVersions(
  type: string,
  directories: readonly string[],
): Promise<readonly string[]> {
  const answer = await callPlugin({
    command: 'VERSION',
    type,
    directories,
    config: { cniVersion: '1.0.0' },
    timeoutMs: 10_000,
  })
  const versions = isObject(answer) ? answer['supportedVersions'] : undefined
  // "supportedVersions" is younger than the call: without it the plugin knows the first version only.
  return Array.isArray(versions) ? versions.filter((v) => typeof v === 'string') : ['0.1.0']
}

interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

function execute(path: string, what: string, call: PluginCall): Promise<Ended> {
  return new Promise((resolve, reject) => {
    // Its own process group, so that a delegate (IPAM) that hangs is killed with it.
    const child = spawn(path, [], { env: environment(call), cwd: '/', detached: true })
    const stdout: Buffer[] = []
    let stdoutBytes = 0
    let stderr = Buffer.alloc(0)
    let failure: Fault | undefined
    const giveUp = (fault: Fault): void => {
      failure ??= fault
      killGroup(child.pid)
      // A grandchild that left the group may hold the pipes: they must not hold us.
      child.stdout.destroy()
      child.stderr.destroy()
    }
    const timeoutMs = call.timeoutMs ?? PLUGIN_TIMEOUT_MS
    const timer = setTimeout(
      () => giveUp(new Fault('DEADLINE_EXCEEDED', `${what} did not end within ${timeoutMs} ms`)),
      timeoutMs,
    )
    const aborted = (): void => giveUp(new Fault('UNAVAILABLE', `${what} was cancelled`))
    call.signal?.addEventListener('abort', aborted, { once: true })
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
    child.on('error', (error) => {
      clearTimeout(timer)
      reject(new Fault('INTERNAL', `cannot execute ${what} at ${path}`, { cause: error }))
    })
    child.on('close', (code, signal) => {
      clearTimeout(timer)
      call.signal?.removeEventListener('abort', aborted)
      if (failure) reject(failure)
      else {
        resolve({
          code,
          signal,
          stdout: Buffer.concat(stdout).toString('utf8'),
          stderr: stderr.toString('utf8'),
        })
      }
    })
  })
}

/** Only what the specification names, and a PATH: plugins call iptables by name. */
function environment(call: PluginCall): NodeJS.ProcessEnv {
  const env: NodeJS.ProcessEnv = {
    PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    CNI_COMMAND: call.command,
    CNI_PATH: call.directories.join(':'),
  }
  if (call.containerId !== undefined) env['CNI_CONTAINERID'] = call.containerId
  if (call.netns !== undefined) env['CNI_NETNS'] = call.netns
  if (call.ifname !== undefined) env['CNI_IFNAME'] = call.ifname
  if (call.args !== undefined && call.args.length > 0) env['CNI_ARGS'] = call.args.join(';')
  return env
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return
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
