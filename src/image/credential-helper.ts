import { spawn } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { delimiter, isAbsolute, join } from 'node:path'
import { Fault, harmless } from '../base/fault.ts'
import type { Credentials } from './auth.ts'
import { readAtMost } from './http.ts'
import { parseObject } from './json.ts'

const OUTPUT_BYTES_MAX = 64 * 1024
/** A helper may ask a person to unlock a key. */
const TIMEOUT_MS = 60_000
const SHOWN_MAX = 200

/** A login kept outside any file. */
export interface StoredLogin {
  readonly username: string
  readonly password: string
}

/** Asks `docker-credential-NAME get`; undefined where it knows no login for the server. */
export async function loginFromHelper(
  name: string,
  server: string,
  timeoutMs = TIMEOUT_MS,
): Promise<Credentials | undefined> {
  const { program, output, code } = await runHelper(name, 'get', server, timeoutMs)
  if (code !== 0) {
    if (/credentials not found/i.test(output.toString('utf8'))) return undefined
    throw failure(program, code, `asked for ${server}`, output)
  }
  const answer = parseObject(output, OUTPUT_BYTES_MAX, `the output of ${program}`)
  const username = answer['Username']
  const secret = answer['Secret']
  if (typeof username !== 'string' || typeof secret !== 'string') {
    throw new Fault('UNAVAILABLE', `${program} gives no Username and Secret`)
  }
  if (username === '<token>') return { kind: 'identity', token: secret }
  return { kind: 'basic', username, password: secret }
}

/** Has `docker-credential-NAME store` keep a login. */
export async function storeByHelper(
  name: string,
  server: string,
  login: StoredLogin,
): Promise<void> {
  const text = JSON.stringify({
    ServerURL: server,
    Username: login.username,
    Secret: login.password,
  })
  const { program, output, code } = await runHelper(name, 'store', text, TIMEOUT_MS)
  if (code !== 0) throw failure(program, code, `to store the login for ${server}`, output)
}

/** Has `docker-credential-NAME erase` forget a login; false where it knew none. */
export async function eraseByHelper(name: string, server: string): Promise<boolean> {
  const { program, output, code } = await runHelper(name, 'erase', server, TIMEOUT_MS)
  if (code === 0) return true
  if (/credentials not found/i.test(output.toString('utf8'))) return false
  throw failure(program, code, `to erase the login for ${server}`, output)
}

/** Where it fails, the protocol has the reason on stdout, and never a secret. */
function failure(program: string, code: number, when: string, output: Buffer): Fault {
  const reason = harmless(output.toString('utf8').trim().split('\n')[0] ?? '').slice(0, SHOWN_MAX)
  const text = `${program} ended with code ${code} when ${when}`
  return new Fault('UNAVAILABLE', reason === '' ? text : `${text}: ${reason}`)
}

/** docker-credential-helpers' protocol: an action as the one argument, what it is about on stdin, the answer on stdout. */
async function runHelper(
  name: string,
  action: 'get' | 'store' | 'erase',
  input: string,
  timeoutMs: number,
): Promise<{ program: string; output: Buffer; code: number }> {
  // The name becomes part of a program's: no path in it.
  if (!/^[A-Za-z0-9_.-]{1,64}$/.test(name)) {
    throw new Fault(
      'INVALID_ARGUMENT',
      `${JSON.stringify(name.slice(0, 100))} is no credential helper's name`,
    )
  }
  const program = `docker-credential-${name}`
  const child = spawn(programPath(program), [action], {
    stdio: ['pipe', 'pipe', 'ignore'],
    cwd: '/',
  })
  let isLate = false
  const stop = (): void => {
    child.kill('SIGKILL')
    // What the helper has started may hold the pipe open for ever.
    child.stdout.destroy()
  }
  const timer = setTimeout(() => {
    isLate = true
    stop()
  }, timeoutMs)
  const ended = new Promise<number>((resolve, reject) => {
    child.on('error', (error) =>
      reject(new Fault('UNAVAILABLE', `cannot run ${program}`, { cause: error })),
    )
    child.on('exit', (code) => resolve(code ?? -1))
  })
  // A helper that reads nothing breaks the pipe; its exit code says the rest.
  child.stdin.on('error', () => undefined)
  child.stdin.end(input)
  const read = readAtMost(child.stdout, OUTPUT_BYTES_MAX, `the output of ${program}`)
  try {
    const [output, code] = await Promise.all([read, ended])
    return { program, output, code }
  } catch (error) {
    stop()
    if (!isLate) throw error
    throw new Fault('UNAVAILABLE', `${program} gave no answer within ${timeoutMs / 1000} s`)
  } finally {
    clearTimeout(timer)
  }
}

/** The first of its name in PATH, by absolute folders only: where we happen to stand decides nothing. */
function programPath(program: string): string {
  const folders = (process.env['PATH'] ?? '').split(delimiter).filter(isAbsolute)
  for (const path of folders.map((folder) => join(folder, program))) {
    try {
      accessSync(path, constants.X_OK)
      return path
    } catch {
      // Not there, or not to be executed: the next one.
    }
  }
  throw new Fault('FAILED_PRECONDITION', `there is no program ${program} in PATH`)
}
