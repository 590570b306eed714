/** Fields of a configuration that decide when, where and as what a program runs, as the kernel shows them. */
import { readFileSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { eventually } from '../lib/eventually.ts'
import { needs } from '../lib/needs.ts'
import { ociOfFile, type Patch } from '../lib/oci.ts'

needs('root', 'cgroup2', 'program:busybox')

const { oci, nothingIsLeft } = ociOfFile()
let count = 0

async function run(script: string, patch: Patch) {
  const id = `run-${++count}`
  return await oci.run(['run', '--bundle', oci.bundle(id, script, patch), id])
}

test('a scheduler, an io priority, a personality and a memory policy are in force', async () => {
  const { stdout, stderr } = await run(
    'cut -d" " -f19,41 /proc/self/stat; ionice; uname -m; grep -m1 -o "interleave:0\\|bind:0" /proc/self/numa_maps',
    (spec) => {
      Object.assign(spec.process, {
        scheduler: { policy: 'SCHED_BATCH', nice: 5 },
        ioPriority: { class: 'IOPRIO_CLASS_BE', priority: 6 },
      })
      Object.assign(spec.linux, {
        personality: { domain: 'LINUX32' },
        memoryPolicy: { mode: 'MPOL_BIND', nodes: '0' },
      })
    },
  )
  // nice and SCHED_BATCH (3).
  assert.match(stdout, /^5 3$/m, stderr)
  assert.match(stdout, /best-effort: prio 6/)
  if (process.arch === 'x64') assert.match(stdout, /^i686$/m)
  assert.match(stdout, /^bind:0$/m)
})

test('a further process begins on its processors, and goes on on others; the first has no part in it', async () => {
  const [all = ''] = /^Cpus_allowed_list:.*$/m.exec(readFileSync('/proc/self/status', 'utf8')) ?? []
  const bundle = oci.bundle(
    'cpus',
    'grep Cpus_allowed_list /proc/self/status; exec sleep 1000',
    (spec) => {
      Object.assign(spec.process, { execCPUAffinity: { initial: '0' } })
    },
  )
  await oci.create('cpus')
  await oci.ok(['start', 'cpus'])
  await eventually('it runs', () => oci.output('cpus') === `${all}\n`)
  const look = ['grep', 'Cpus_allowed_list', '/proc/self/status']
  assert.is(await oci.ok(['exec', 'cpus', ...look]), 'Cpus_allowed_list:\t0\n')
  const file = join(bundle, 'process.json')
  const process_ = { cwd: '/', args: look, env: ['PATH=/bin'] }
  const further = (execCPUAffinity: object) => {
    writeFileSync(file, JSON.stringify({ ...process_, execCPUAffinity }))
    return oci.run(['exec', '--process', file, 'cpus'])
  }
  const last = String(availableParallelism() - 1)
  const { stdout, stderr } = await further({ initial: '0', final: last })
  assert.is(stdout, `Cpus_allowed_list:\t${last}\n`, stderr)
  assert.match((await further({ initial: '8000' })).stderr, /execCPUAffinity\.initial/)
  assert.match((await further({ final: '8000' })).stderr, /execCPUAffinity\.final/)
  assert.match(
    (await further({ final: '1-0' })).stderr,
    /execCPUAffinity\.final: .*1-0.* is no range/,
  )
  await oci.ok(['delete', '--force', 'cpus'])
})

test('what does not fit is refused by its name', async () => {
  const refused = async (patch: Patch, message: RegExp) => {
    const { code, stderr } = await run('true', patch)
    assert.is(code, 1)
    assert.match(stderr, message)
  }
  const ofProcess =
    (fields: object): Patch =>
    (spec) =>
      Object.assign(spec.process, fields)
  const ofLinux =
    (fields: object): Patch =>
    (spec) =>
      Object.assign(spec.linux, fields)
  await refused(ofProcess({ scheduler: { policy: 'SCHED_X' } }), /process\.scheduler\.policy/)
  await refused(
    ofProcess({ scheduler: { policy: 'SCHED_OTHER', runtime: 1 } }),
    /SCHED_DEADLINE only/,
  )
  await refused(
    ofProcess({ ioPriority: { class: 'IOPRIO_CLASS_BE', priority: 8 } }),
    /ioPriority\.priority/,
  )
  await refused(ofLinux({ personality: { domain: 'LINUX', flags: ['X'] } }), /personality\.flags/)
  await refused(
    ofLinux({ memoryPolicy: { mode: 'MPOL_BIND', nodes: '5-2' } }),
    /memoryPolicy\.nodes/,
  )
  await refused(ofLinux({ intelRdt: { closID: 'x' } }), /linux\.intelRdt/)
})

test('nothing is left behind', nothingIsLeft)
test.run()
