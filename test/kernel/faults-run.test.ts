/** Every kernel call of `berth run`, `exec` and `rm -f` fails once: it is told, or makes no difference, and nothing stays. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { describe, Fault } from '../../src/base/fault.ts'
import { createContainer } from '../../src/engine/create.ts'
import { execContainer } from '../../src/engine/exec.ts'
import { findContainer, listContainers } from '../../src/engine/find.ts'
import { pruneEngine } from '../../src/engine/prune.ts'
import { removeContainer } from '../../src/engine/remove.ts'
import { startContainer } from '../../src/engine/start.ts'
import type { ContainerRecord, Session } from '../../src/engine/types.ts'
import { berthOfFile } from '../lib/berth.ts'
import { engineOf, optionsOf, runDetached } from '../lib/engine.ts'
import { eventually } from '../lib/eventually.ts'
import { faultyMonitor, withFault } from '../lib/faults.ts'
import { collect } from '../lib/monitor.ts'
import { cgroupRoot, needs } from '../lib/needs.ts'

needs('root', 'overlay', 'cgroup2', 'userns', 'program:g++')

const CALLS_MAX = 2000
/** All calls have had their turn when so many in a row make no difference. */
const UNTOUCHED = 20
/** After every so many failures the same is done without. */
const AGAIN = 10

const { berth, nothingIsLeft } = berthOfFile()
const warnings: string[] = []
const engine = engineOf(berth, warnings)
const build = join(berth.directory, 'faulty')
mkdirSync(build)
const { program, nth } = faultyMonitor(build)
process.env['BERTH_MONITOR'] = program
const nativeFault = (n: number): void => writeFileSync(nth, String(n))

const plain = ['--net', 'none', '--name', 'x']
const full = [
  ...plain,
  '--hostname=faults',
  '--volume=/usr:/mnt:ro',
  '--volume=/anonymous',
  '--tmpfs=/scratch',
  '--workdir=/made/here',
  '--sysctl=net.ipv4.ip_unprivileged_port_start=7',
  '--device=/dev/null:/dev/given',
  '--read-only',
]
const VARIANTS: readonly (readonly [string, readonly string[]])[] = [
  ['of all its own', full],
  ['with a user namespace', [...plain, '--userns=100000:100000:65536', '--volume=/usr:/mnt:ro']],
  ['with a terminal and an init', [...plain, '--tty', '--init']],
]

const create = (words: readonly string[]): Promise<ContainerRecord> =>
  createContainer(engine, optionsOf(...words, 'hello', 'probe', 'echo', 'ran'))

/** Starts it and waits for its end; its output. */
async function run(id: string): Promise<string> {
  const session = await startContainer(engine, id, { stdin: false, rows: 0, columns: 0 })
  const text = await collect(session as Session)
  const { code } = (await session?.exit) ?? { code: -1 }
  return `${code} ${text.trim()}`
}

/** What a failed start has left: a stopped container that knows why. */
async function nothingRuns(record: ContainerRecord, said: string): Promise<void> {
  const { status } = await findContainer(engine, record.id)
  assert.ok(status.state === 'stopped' || status.state === 'created', said)
  if (status.state === 'stopped') {
    assert.not.match(status.error, /monitor was killed/, said)
    assert.match(status.error, /\w/, said)
  }
  assert.equal(readdirSync(join(berth.state, 'containers')), [], said)
  assert.not(existsSync(join(cgroupRoot(), 'berth', record.id)), said)
}

function isEmpty(said: string): void {
  for (const directory of ['root/containers', 'root/names', 'root/volumes', 'state/containers']) {
    assert.equal(readdirSync(join(berth.directory, directory)), [], `${said}: ${directory}`)
  }
}

test.after.each(async () => {
  // A failed claim must not fail the next one. After the last the berth is gone.
  if (!existsSync(nth)) return
  nativeFault(0)
  await remove().catch(() => {})
})

const remove = (): Promise<void> => removeContainer(engine, 'x', { force: true, volumes: true })

for (const [name, words] of VARIANTS) {
  test(`run ${name}: the nth call on the way into the container fails, for every n`, async () => {
    let failures = 0
    const record = await create(words)
    for (let n = 1, untouched = 0; untouched < UNTOUCHED; n++) {
      assert.ok(n < CALLS_MAX)
      nativeFault(n)
      let said = `call ${n}`
      try {
        assert.is(await run(record.id), '0 ran', said)
        untouched++
      } catch (error) {
        untouched = 0
        failures++
        assert.instance(error, Fault, `${said}: ${describe(error)}`)
        said = `${said}: ${describe(error)}`
        assert.match(
          describe(error),
          /^cannot (create the container|start container [0-9a-f]{64}): [^\n]*Input\/output error$/,
          said,
        )
        await nothingRuns(record, said)
        nativeFault(0)
        if (failures % AGAIN === 0) assert.is(await run(record.id), '0 ran', said)
      }
      assert.equal(warnings.splice(0), [], said)
    }
    await remove()
    isEmpty('at the end')
    console.log(`# run ${name}: ${failures} calls failed, each told`)
    assert.ok(failures > 40)
  })
}

test('exec: the nth call on the way into the container fails, for every n', async () => {
  const { id } = await runDetached(engine, ...plain, 'hello', 'sleep', '1000')
  const { status } = await findContainer(engine, id)
  const cgroup = join(cgroupRoot(), 'berth', id, 'cgroup.procs')
  const before = readFileSync(cgroup, 'utf8')
  let failures = 0
  for (let n = 1, untouched = 0; untouched < UNTOUCHED; n++) {
    assert.ok(n < CALLS_MAX)
    const exec = async (): Promise<string> => {
      const session = (await execContainer(engine, id, {
        command: ['probe', 'echo', 'ran'],
        interactive: false,
        terminal: n % 2 === 0,
        detach: false,
        env: [],
        privileged: false,
        rows: 0,
        columns: 0,
      })) as Session
      return (await collect(session)).trim()
    }
    nativeFault(n)
    try {
      assert.is(await exec(), 'ran')
      untouched++
    } catch (error) {
      untouched = 0
      failures++
      const said = `call ${n}: ${describe(error)}`
      assert.instance(error, Fault, said)
      assert.match(describe(error), /^cannot exec in container [^\n]*Input\/output error$/, said)
      nativeFault(0)
      assert.is(await exec(), 'ran', said)
    }
    // The failure is told by the process that fails: it may still be on its way out.
    await eventually(
      `call ${n}: its process is gone`,
      () => readFileSync(cgroup, 'utf8') === before,
    )
    assert.is((await findContainer(engine, id)).status.pid, status.pid)
  }
  console.log(`# exec: ${failures} calls failed, each told`)
  assert.ok(failures > 15)
  nativeFault(0)
  await remove()
})

test('run: the nth call of berth itself fails, for every n', async () => {
  await sweep('run', async (n) => {
    let record: ContainerRecord | undefined
    const { failed, error, result } = await withFault(n, async () => {
      record = await create(full)
      return run(record.id)
    })
    const said = `call ${n}, ${failed}: ${error === undefined ? 'no error' : describe(error)}`
    if (error === undefined) assert.is(result, '0 ran', said)
    else assert.match(describe(error), /EIO|Input\/output error/, said)
    if (record === undefined) {
      assert.equal(await listContainers(engine, { all: true }), [], said)
    } else if (error !== undefined) await nothingRuns(record, said)
    record ??= await create(full)
    assert.is(await run(record.id), '0 ran', said)
    await remove()
    await pruneEngine(engine, { containers: true, images: false, allImages: false, volumes: true })
    isEmpty(said)
    return { failed, error }
  })
})

test('rm -f of a running container: the nth call of berth itself fails, for every n', async () => {
  await sweep('rm -f', async (n) => {
    const record = await create([...full, '--init'])
    await startContainer(engine, record.id)
    const { failed, error } = await withFault(n, remove)
    const said = `call ${n}, ${failed}: ${error === undefined ? 'no error' : describe(error)}`
    await remove().catch((again) => {
      if (!(again instanceof Fault) || again.code !== 'NOT_FOUND') throw again
    })
    await pruneEngine(engine, { containers: true, images: false, allImages: false, volumes: true })
    isEmpty(said)
    assert.not(existsSync(join(cgroupRoot(), 'berth', record.id)), said)
    assert.is(await run((await create(full)).id), '0 ran', said)
    await remove()
    return { failed, error }
  })
})

async function sweep(
  what: string,
  round: (n: number) => Promise<{ failed: string | undefined; error?: unknown }>,
): Promise<void> {
  let told = 0
  const harmless = new Set<string>()
  let n = 1
  for (; n < CALLS_MAX; n++) {
    const { failed, error } = await round(n)
    warnings.length = 0
    if (failed === undefined) break
    if (error === undefined) harmless.add(failed)
    else told++
  }
  assert.ok(n < CALLS_MAX)
  console.log(
    `# ${what}: of ${n - 1} calls ${told} failures were told; without effect: ${[...harmless].join(', ')}`,
  )
  assert.ok(told > 20)
}

test('nothing is left behind', nothingIsLeft)

test.run()
