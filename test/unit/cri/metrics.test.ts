import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { request, type Server } from 'node:http'
import { type AddressInfo, createServer as createTcp, type Server as TcpServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Fault } from '../../../src/base/fault.ts'
import { closeServer } from '../../../src/cri/listen.ts'
import { Log } from '../../../src/cri/log.ts'
import { Metrics } from '../../../src/cri/metrics.ts'
import { MetricsEndpoint, serveMetrics } from '../../../src/cri/metrics-server.ts'
import { Operations } from '../../../src/cri/operations.ts'
import { failure } from '../../lib/archive.ts'

const lines: string[] = []
const log = Log.to(
  new Writable({
    write(chunk, _, done) {
      lines.push(String(chunk))
      done()
    },
  }),
  { level: 'info', format: 'text' },
)

let failing = false
const metrics = new Metrics({
  version: '1.2.3',
  log,
  inFlight: () => ({ ExecSync: 2 }),
  states: async () => {
    if (failing) throw new Fault('INTERNAL', 'no list')
    return { pods: { ready: 3 }, containers: { running: 4, exited: 1 } }
  },
  sums: () => ({ pulls: { success: 1, failure: 0 }, pulledBytes: 1000, eventsDropped: 3 }),
})

let directory = ''
test.before.each(() => {
  directory = mkdtempSync(join(tmpdir(), 'berth-metrics-'))
})
test.after.each(() => rmSync(directory, { recursive: true }))

function get(
  where: { socketPath: string } | { host: string; port: number },
  path = '/metrics',
  method = 'GET',
): Promise<{ status: number; body: string; type: string }> {
  return new Promise((resolve, reject) => {
    const sent = request({ ...where, path, method, agent: false }, (response) => {
      let body = ''
      response.on('data', (part) => {
        body += String(part)
      })
      response.on('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          body,
          type: response.headers['content-type'] ?? '',
        }),
      )
    })
    sent.on('error', reject)
    sent.end()
  })
}

async function served<T>(server: Server, act: () => Promise<T>): Promise<T> {
  try {
    return await act()
  } finally {
    await closeServer(server)
  }
}

test('calls, errors, latency and stages', async () => {
  const operations = new Operations({ log, metrics, slowStageMs: 60_000 })
  const operation = operations.begin('RunPodSandbox', 'hostile "name"\n')
  operation.stage('cni ADD bridge')
  operation.done()
  operations.begin('RunPodSandbox', 'x').done(new Fault('UNAVAILABLE', 'no'))
  const text = await metrics.text()
  for (const line of [
    'berth_operations_total{method="RunPodSandbox"} 2',
    'berth_operations_errors_total{method="RunPodSandbox",code="UNAVAILABLE"} 1',
    'berth_operation_duration_seconds_count{method="RunPodSandbox"} 2',
    'berth_operation_stage_duration_seconds_count{method="RunPodSandbox",stage="cni ADD bridge"} 1',
    'berth_operations_in_flight{method="ExecSync"} 2',
    'berth_pods{state="ready"} 3',
    'berth_containers{state="running"} 4',
    'berth_image_pulls_total{result="success"} 1',
    'berth_image_pulls_total{result="failure"} 0',
    'berth_image_pulled_bytes_total 1000',
    'berth_events_dropped_total 3',
    'berth_build_info{version="1.2.3"} 1',
  ]) {
    assert.ok(text.split('\n').includes(line), `${line}\n${text}`)
  }
  assert.match(text, /^process_resident_memory_bytes \d+/m)
  assert.match(text, /^process_open_fds \d+/m)
  assert.not.match(text, /hostile/)
})

test('stages by the thousand do not become series by the thousand', async () => {
  for (let i = 0; i < 1000; i++) {
    metrics.operationDone(
      { id: '1', method: 'PullImage', subject: '', ms: 1, stages: [{ name: `s${i}`, ms: 1 }] },
      'OK',
    )
  }
  const text = await metrics.text()
  const names = new Set([...text.matchAll(/stage="(s\d+|other)"/g)].map(([, name]) => name))
  assert.ok(names.has('other'))
  assert.ok(names.size < 200)
})

test('where pods cannot be listed all else is still told, and the log says why', async () => {
  failing = true
  const text = await metrics.text()
  failing = false
  assert.not.match(text, /^berth_containers\{/m)
  assert.match(text, /^berth_operations_total\{/m)
  assert.ok(lines.some((line) => line.includes('no list')))
})

test('they are served on a unix socket for root alone; a dead one in the way is replaced, a living one not', async () => {
  const path = join(directory, 'm.sock')
  const dead = createTcp()
  await new Promise<void>((resolve) => dead.listen(path, resolve))
  await assertTaken(path)
  // A server that was killed leaves its socket: here the file is put back after the close has taken it away.
  await leaveSocket(dead, path)
  await served(await serveMetrics({ path }, metrics, log), async () => {
    assert.is(statSync(path).mode & 0o777, 0o600)
    const { status, body, type } = await get({ socketPath: path })
    assert.is(status, 200)
    assert.match(type, /^text\/plain; version=0\.0\.4/)
    assert.match(body, /^# HELP berth_operations_total /m)
    assert.is((await get({ socketPath: path }, '/')).status, 404)
    assert.is((await get({ socketPath: path }, '/metrics', 'POST')).status, 405)
    await assertTaken(path)
  })
})

async function assertTaken(path: string): Promise<void> {
  const { code } = await failure(serveMetrics({ path }, metrics, log))
  assert.is(code, 'ALREADY_EXISTS')
}

async function leaveSocket(server: TcpServer, path: string): Promise<void> {
  const { linkSync, renameSync } = await import('node:fs')
  linkSync(path, `${path}.kept`)
  await new Promise<void>((resolve) => server.close(() => resolve()))
  renameSync(`${path}.kept`, path)
}

test('a file that is no socket is left alone', async () => {
  const path = join(directory, 'file')
  writeFileSync(path, 'precious')
  const { code, message } = await failure(serveMetrics({ path }, metrics, log))
  assert.is(code, 'FAILED_PRECONDITION')
  assert.ok(message.includes(path))
})

test('on a port; one that is taken is an error that names it', async () => {
  const other = createTcp()
  await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
  const { port } = other.address() as AddressInfo
  const { message } = await failure(serveMetrics({ host: '127.0.0.1', port }, metrics, log))
  assert.match(message, new RegExp(`cannot listen on 127\\.0\\.0\\.1:${port}`))
  await new Promise<void>((resolve) => other.close(() => resolve()))
  await served(await serveMetrics({ host: '127.0.0.1', port }, metrics, log), async () => {
    assert.is((await get({ host: '127.0.0.1', port })).status, 200)
  })
})

test('the endpoint moves with the configuration', async () => {
  const [first, second] = [join(directory, '1'), join(directory, '2')]
  const endpoint = new MetricsEndpoint(metrics, log)
  await endpoint.listen(`unix:${first}`)
  await endpoint.listen(`unix:${first}`)
  assert.is((await get({ socketPath: first })).status, 200)
  await endpoint.listen(`unix:${second}`)
  assert.is((await get({ socketPath: second })).status, 200)
  assert.match((await failure(get({ socketPath: first }))).code, /ENOENT|ECONNREFUSED/)
  const { code } = await failure(endpoint.listen(`unix:${directory}/none/x`))
  assert.is(code, 'FAILED_PRECONDITION')
  await endpoint.listen(`unix:${second}`)
  assert.is((await get({ socketPath: second })).status, 200)
  await endpoint.listen('')
  assert.match((await failure(get({ socketPath: second }))).code, /ENOENT|ECONNREFUSED/)
})

test.run()
