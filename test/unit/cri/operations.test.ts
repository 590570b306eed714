import { Writable } from 'node:stream'
import { setTimeout as wait } from 'node:timers/promises'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Fault } from '../../../src/base/fault.ts'
import type { Stage } from '../../../src/base/stage.ts'
import { Log } from '../../../src/cri/log.ts'
import { Operations } from '../../../src/cri/operations.ts'
import { eventually } from '../../lib/eventually.ts'

type Line = Readonly<Record<string, unknown>>

function make(options: { slowStageMs?: number } = {}): { operations: Operations; lines: Line[] } {
  const lines: Line[] = []
  const stream = new Writable({
    write(chunk, _, done) {
      lines.push(JSON.parse(String(chunk)))
      done()
    },
  })
  const log = Log.to(stream, { level: 'debug', format: 'json' })
  return { operations: new Operations({ log, slowStageMs: options.slowStageMs ?? 60_000 }), lines }
}

test('what an operation does names its stages, also of two at once', async () => {
  const { operations, lines } = make()
  const deep = async (name: string, stage: Stage) => {
    stage(`${name} 1`)
    await wait(20)
    stage(`${name} 2`)
    await wait(1)
  }
  await Promise.all([
    operations.run('RunPodSandbox', 'a', ({ stage }) => deep('a', stage)),
    operations.run('RunPodSandbox', 'b', ({ stage }) => deep('b', stage)),
  ])
  assert.is(operations.size, 0)
  for (const line of lines) {
    const { subject, stages, code, ms } = line as {
      subject: string
      stages: Record<string, number>
      code: string
      ms: number
    }
    assert.equal(Object.keys(stages), [`${subject} 1`, `${subject} 2`])
    assert.ok((stages[`${subject} 1`] ?? 0) >= 15)
    assert.ok(ms >= (stages[`${subject} 1`] ?? 0))
    assert.is(code, 'OK')
  }
})

test('those in flight are listed with their stage, the oldest first', () => {
  const { operations } = make()
  const first = operations.begin('StopPodSandbox', 'x')
  const second = operations.begin('ExecSync', 'y')
  second.stage('wait')
  second.subject = 'y/z'
  const list = operations.list()
  assert.equal(
    list.map(({ method, subject, stages }) => [method, subject, stages.at(-1)?.name]),
    [
      ['StopPodSandbox', 'x', undefined],
      ['ExecSync', 'y/z', 'wait'],
    ],
  )
  assert.is.not(list[0]?.id, list[1]?.id)
  first.done()
  second.done()
  assert.is(operations.size, 0)
})

test('an error is passed on and told with its code; an end counts once', async () => {
  const { operations, lines } = make()
  const fault = new Fault('NOT_FOUND', 'no such pod')
  let thrown: unknown
  await operations
    .run('RemovePodSandbox', 'x', async (operation) => {
      operation.done(fault)
      throw fault
    })
    .catch((error) => {
      thrown = error
    })
  assert.is(thrown, fault)
  assert.is(lines.length, 1)
  const { level, code, error } = lines[0] ?? {}
  assert.equal([level, code, error], ['warn', 'NOT_FOUND', 'no such pod'])
})

test('the level says who is to look: polls are for debugging, our own failures are errors', () => {
  const { operations, lines } = make()
  const end = (method: string, error?: unknown) => operations.begin(method, '').done(error)
  for (const method of [
    'ListContainers',
    'Status',
    'ContainerStatus',
    'PodSandboxStats',
    'ImageFsInfo',
    'Version',
  ])
    end(method)
  end('ContainerStatus', new Fault('NOT_FOUND', 'gone'))
  assert.equal([...new Set(lines.map(({ level }) => level))], ['debug'])
  lines.length = 0
  end('StartContainer')
  end('UpdateRuntimeConfig')
  end('StartContainer', new Fault('INVALID_ARGUMENT', 'bad'))
  end('ListContainers', new Error('a bug'))
  end('ExecSync', AbortSignal.abort().reason)
  assert.equal(
    lines.map(({ level, code }) => [level, code]),
    [
      ['info', 'OK'],
      ['info', 'OK'],
      ['warn', 'INVALID_ARGUMENT'],
      ['error', 'INTERNAL'],
      ['warn', 'CANCELLED'],
    ],
  )
})

test('a stage that lasts too long is told once, and again when it has doubled', () => {
  const operation = make().operations.begin('RunPodSandbox', 'x')
  operation.stage('cni ADD bridge')
  const start = performance.now()
  const told = [1, 9, 11, 12, 21, 23, 45, 47].filter(
    (seconds) => operation.overdue(10_000, start + seconds * 1000) !== undefined,
  )
  assert.equal(told, [11, 23, 47])
  operation.stage('next')
  assert.is(operation.overdue(10_000, start + 9000), undefined)
  assert.is(operation.overdue(10_000, start + 11_000)?.stage, 'next')
  operation.done()
})

test('the log names what is slow, unless it was said to take its time', async () => {
  const { operations, lines } = make({ slowStageMs: 500 })
  const stuck = operations.begin('RunPodSandbox', 'stuck')
  stuck.stage('cni ADD bridge')
  const patient = operations.begin('StopContainer', 'patient')
  patient.stage('grace', 60_000)
  const endless = operations.begin('GetContainerEvents', '', {
    patienceMs: Number.POSITIVE_INFINITY,
  })
  await eventually('it is told', () => lines.length > 0)
  for (const each of [stuck, patient, endless]) each.done()
  const slow = lines.filter(({ message }) => message === 'slow')
  assert.equal(
    slow.map(({ subject, stage: name, level }) => [subject, name, level]),
    [['stuck', 'cni ADD bridge', 'warn']],
  )
})

test('a loop of stages does not fill the memory', () => {
  const { operations } = make()
  const operation = operations.begin('PullImage', 'x')
  for (let i = 0; i < 10_000; i++) operation.stage('layer')
  assert.ok(operation.report().stages.length <= 64)
  operation.done()
  operation.stage('after the end')
  assert.is.not(operation.report().stages.at(-1)?.name, 'after the end')
})

test.run()
