import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import type { Server } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { loadConfiguration } from '../../../src/cri/config.ts'
import { Debug, type DebugReport } from '../../../src/cri/debug.ts'
import { closeServer } from '../../../src/cri/listen.ts'
import { Log } from '../../../src/cri/log.ts'
import { Operations } from '../../../src/cri/operations.ts'
import { REPOSITORY } from '../../lib/images.ts'

let state = ''
let lines: string[] = []
let summary: () => Promise<Record<string, unknown>> = async () => ({})
let log: Log
let operations: Operations
let debug: Debug
let server: Server | undefined

test.before.each(() => {
  state = mkdtempSync(join(tmpdir(), 'berth-debug-'))
  lines = []
  summary = async () => ({})
  log = Log.to(
    new Writable({
      write(chunk, _, done) {
        lines.push(String(chunk))
        done()
      },
    }),
    { level: 'warn', format: 'json' },
  )
  operations = new Operations({ log, slowStageMs: 60_000 })
  const file = join(state, 'config.toml')
  writeFileSync(file, '[stream]\nport = 4711')
  const configuration = loadConfiguration({ file, state })
  debug = new Debug({
    version: '1.2.3',
    operations,
    log,
    configuration: () => configuration,
    summary: () => summary(),
  })
})
test.after.each(async () => {
  debug.close()
  if (server) await closeServer(server)
  server = undefined
  rmSync(state, { recursive: true })
})

/** The command as it is given. */
function berth(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [`${REPOSITORY}bin/berth.cjs`, '--state', state, ...args])
    let stdout = ''
    let stderr = ''
    child.stdout.on('data', (part) => {
      stdout += String(part)
    })
    child.stderr.on('data', (part) => {
      stderr += String(part)
    })
    child.on('close', (code) => resolve({ code: code ?? 255, stdout, stderr }))
  })
}

test('without a daemon the command says so', async () => {
  const { code, stderr } = await berth('debug')
  assert.is(code, 125)
  assert.match(stderr, /no berth serve at .*debug\.sock: it does not run/)
})

test('the socket is for root alone, and the command shows calls, pods and configuration', async () => {
  server = await debug.serve(state)
  assert.is(statSync(join(state, 'debug.sock')).mode & 0o777, 0o600)
  summary = async () => ({ pods: { ready: 2 }, monitors: 3 })
  const operation = operations.begin('RunPodSandbox', 'hostile\u001b[2J')
  operation.stage('cni ADD bridge')
  const { code, stdout, stderr } = await berth('debug')
  assert.equal([code, stderr], [0, ''])
  assert.match(stdout, /RunPodSandbox +\d.*cni ADD bridge .*hostile\\x1b\[2J/)
  assert.match(stdout, /^pods:\n {2}ready: 2\nmonitors: 3$/m)
  assert.match(stdout, /stream\.port: 4711 \(.*config\.toml\)/)
  assert.not.match(stdout, /stream\.address/)
  const report = JSON.parse((await berth('debug', '--format', 'json')).stdout) as DebugReport
  assert.is(report.pid, process.pid)
  assert.equal(
    report.operations.map(({ method, stages }) => [method, stages.at(-1)?.name]),
    [['RunPodSandbox', 'cni ADD bridge']],
  )
  assert.ok(report.memory.residentBytes > 1_000_000)
  assert.ok((report.resources['PipeWrap'] ?? 0) + (report.resources['PipeServerWrap'] ?? 0) > 0)
  operation.done()
})

test('the command changes the level of the log', async () => {
  server = await debug.serve(state)
  const { code, stdout } = await berth('debug', '--log-level', 'debug')
  assert.equal([code, stdout], [0, 'log level: debug\n'])
  assert.is(log.level, 'debug')
  const refused = await berth('debug', '--log-level', 'loud')
  assert.is(refused.code, 125)
  assert.match(refused.stderr, /levels: debug, info, warn, error/)
  assert.is(log.level, 'debug')
})

test('a summary that fails or hangs does not hide the rest', async () => {
  summary = async () => {
    throw new Error('no pods')
  }
  assert.equal((await debug.report()).summary, { error: 'no pods' })
  summary = () => new Promise(() => {})
  operations.begin('StopPodSandbox', 'x')
  const report = await debug.report()
  assert.match(String(report.summary['error']), /no answer within/)
  assert.is(report.operations.length, 1)
})

test('a block of the event loop is seen', async () => {
  const turn = () => new Promise((resolve) => setTimeout(resolve, 120))
  await turn()
  await debug.report()
  await turn()
  const until = performance.now() + 400
  while (performance.now() < until);
  await turn()
  const { maxMs, busyPercent } = (await debug.report()).eventLoop
  assert.ok(maxMs > 200 && maxMs < 5000, String(maxMs))
  assert.ok(busyPercent > 30, String(busyPercent))
})

test('a dump is in the log whatever its level: each operation a line', async () => {
  log.set({ level: 'error' })
  operations.begin('StopPodSandbox', 'x').stage('wait')
  await debug.dump()
  const dumped = lines.map((line) => JSON.parse(line))
  assert.is(dumped[0].message, 'dump')
  assert.is(dumped[0].operations, 1)
  assert.equal([dumped[1].method, dumped[1].stages[0].name], ['StopPodSandbox', 'wait'])
  assert.ok(dumped.some(({ key, value }) => key === 'stream.port' && value === 4711))
})

test('berth config prints what is in force, and check names what is wrong', async () => {
  const file = join(state, 'config.toml')
  const printed = await berth('config', '--config', file)
  assert.is(printed.code, 0)
  assert.match(printed.stdout, new RegExp(`^socket = "${state}/berth\\.sock" # default$`, 'm'))
  assert.match(printed.stdout, /^port = 4711 # .*config\.toml$/m)
  const json = JSON.parse((await berth('config', '--config', file, '--format', 'json')).stdout)
  assert.equal(json.files, [file])
  assert.equal(
    json.keys.find((each: { key: string }) => each.key === 'stream.port'),
    { key: 'stream.port', value: 4711, origin: file, takesEffect: 'restart' },
  )
  assert.is((await berth('config', 'check', '--config', file)).stdout, `${file}: good\n`)

  const profile = join(state, 'profile.json')
  writeFileSync(profile, '{')
  writeFileSync(file, `[container]\nseccomp_profile = "${profile}"`)
  const bad = await berth('config', 'check', '--config', file)
  assert.is(bad.code, 125)
  assert.match(bad.stderr, /container\.seccomp_profile .*no valid JSON/)
  writeFileSync(file, 'prot = 1')
  const unknown = await berth('config', 'check', '--config', file)
  assert.is(unknown.code, 125)
  assert.match(unknown.stderr, /config\.toml: prot: berth does not know this key/)
  assert.is((await berth('config', 'chekc')).code, 125)
  assert.match(readFileSync(file, 'utf8'), /prot/)
})

test.run()
