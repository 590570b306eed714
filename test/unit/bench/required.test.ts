import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { Row } from '../../../bench/report.ts'
import { judge, judgement } from '../../../bench/required.ts'

const row = (
  suite: string,
  work: string,
  unit: Row['unit'],
  of: Record<string, number[]>,
): Row => ({
  ...{ suite, work, unit, of },
})

const START = 'run, create, start; host network'

const one = (rows: readonly Row[], what: string, goals = 'now') => {
  const found = judge(rows).find((judged) => judged.goals === goals && judged.what === what)
  if (!found) throw new Error(`no ${what}`)
  return found
}

test('a ratio is that to the best peer, with our place among all', () => {
  const rows = [
    row('cri', START, 'ms', {
      berth: [5, 6, 7],
      crio: [60],
      containerd: [90],
      'kernel floor': [3],
    }),
  ]
  const judged = one(rows, 'pod and container to running, host network')
  assert.is(judged.figure?.value, 0.1)
  assert.is(judged.isMet, true)
  assert.is(judged.figure?.place, '1 of 3')
  assert.is(judged.figure?.other, 'crio 60.0 ms')
  assert.is(one(rows, 'a host network pod, over the kernel floor').figure?.value, 3)
})

test('a way of ours is no peer of another one', () => {
  const rows = [row('run', 'run --rm', 'ms', { berth: [50], 'berth, daemon': [5], docker: [40] })]
  assert.is(one(rows, 'the same, without').figure?.value, 1.25)
  assert.is(one(rows, 'berth run --rm --net none, with the daemon').figure?.value, 0.125)
  assert.is(one(rows, 'berth run --rm --net none, with the daemon').isMet, false)
})

test('berth-oci is compared with the runtime that is named, whoever is the best', () => {
  const rows = [
    row('oci', 'run of a program', 'ms', { 'berth-oci, daemon': [12], crun: [12], runc: [9] }),
  ]
  assert.is(one(rows, 'berth-oci run, with the daemon, to crun').isMet, true)
})

test('of several works the one that is farthest from its goal counts', () => {
  const rows = [
    row('scale', 'ListContainers at 300 pods', 'ms', { berth: [1], crio: [2] }),
    row('scale', 'ListPodSandbox at 300 pods', 'ms', { berth: [3], crio: [2] }),
  ]
  assert.is(one(rows, 'list calls at 300 containers').figure?.value, 1.5)
  assert.is(one(rows.slice(0, 1), 'list calls at 300 containers').figure?.value, 0.5)
})

test('where no peer has conmon, a pod is compared with what conmon took elsewhere', () => {
  const work = 'each of 300 idle pods, without its program (PSS)'
  const of = (peer: number) => [row('memory', work, 'KiB', { berth: [128.5], peer: [peer] })]
  assert.is(one(of(5000), 'memory of an idle pod, to conmon').figure?.value, 0.5)
  assert.is(one(of(514), 'memory of an idle pod, to conmon').figure?.value, 0.25)
})

test('of throughput more is better', () => {
  const rows = [row('logs', 'log of 1 million', 'MB/s', { 'berth, daemon': [300], podman: [150] })]
  const judged = one(rows, 'log throughput, lines of 100 bytes')
  assert.is(judged.isMet, true)
  assert.is(judged.figure?.place, '1 of 2')
})

test('what was not measured is neither met nor missed, and has its line', () => {
  const judged = judge([])
  assert.ok(judged.every(({ isMet }) => isMet === undefined))
  const lines = judgement(judged, 'now')
  assert.is(lines.length, 1 + 16)
  assert.ok(lines.slice(1).every((line) => line[3] === 'not measured'))
})

test.run()
