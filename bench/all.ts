/**
 * berth against the runtimes that people have, all suites: `npm run bench`.
 *
 *   sudo npm run bench -- [--quick] [--suites run,cri,…] [--peer NAME=SOCKET[,HANDLER]]… [--image REF] [--record] [--json FILE]
 *
 * Peers that are missing are installed from Debian where apt-get is there. `--quick` takes fewer rounds and smaller images, and ten minutes at most (without
 * what is installed): a suite that has no time left fails. `--record` adds
 * the run to bench/history.json and draws it into docs/performance.svg, which docs/performance.md shows with the figures and the machine. With `--peer` the
 * suites of the CRI run beside these runtimes, such as a CRI-O that runs already, and not beside a containerd of the bench's own. Where it is goes to stderr, the
 * tables to stdout. The exit status is 1 where a suite failed or a wanted figure was missed.
 */
import { spawnSync } from 'node:child_process'
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, release, tmpdir, totalmem } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { REPOSITORY } from '../test/lib/images.ts'
import { has } from './engines.ts'
import { record } from './history.ts'
import { CLEANING_MS, type Ended, runProgram } from './program.ts'
import { aligned, progress, type Row, summaryOf } from './report.ts'
import { judge, judgement } from './required.ts'

interface Program {
  readonly name: string
  readonly suites: readonly string[]
  readonly quick: readonly string[]
  readonly whole: readonly string[]
  /** Whether it takes `--suites`. */
  readonly chooses?: boolean
  readonly isOfTheCri?: boolean
}

const PROGRAMS: readonly Program[] = [
  {
    name: 'run',
    suites: ['run', 'exec', 'logs', 'memory'],
    chooses: true,
    quick: ['--rounds', '10', '--seconds', '25', '--lines', '1'],
    whole: ['--rounds', '40', '--seconds', '60'],
  },
  {
    name: 'oci',
    suites: ['oci'],
    quick: ['--rounds', '20', '--seconds', '15'],
    whole: ['--rounds', '40', '--seconds', '60'],
  },
  {
    name: 'cri',
    suites: ['cri'],
    isOfTheCri: true,
    quick: ['--rounds', '10', '--seconds', '40'],
    whole: ['--rounds', '20', '--seconds', '120'],
  },
  {
    name: 'scale',
    suites: ['scale', 'stats', 'memory', 'start-up'],
    chooses: true,
    isOfTheCri: true,
    quick: ['--pods', '1,100,300', '--rounds', '5', '--seconds', '15'],
    whole: ['--rounds', '10', '--seconds', '45'],
  },
  {
    name: 'images',
    suites: ['images'],
    quick: [
      ...['--scale', '0.1', '--rounds', '3', '--seconds', '30'],
      ...['--kinds', 'nine,tiny', '--compressions', 'gzip', '--states', 'cold'],
    ],
    whole: ['--rounds', '3', '--seconds', '120', '--compressions', 'gzip'],
  },
]
const SUITES = [...new Set(PROGRAMS.flatMap(({ suites }) => suites))]

/** Of a program; one that takes longer hangs. */
const LIMIT_MS = 45 * 60_000
/** Of all programs of a quick run, so that with what the last one takes away it is ten minutes. */
const QUICK_MS = 10 * 60_000 - CLEANING_MS

/** Program, Debian package; in this order, since from Debian 13 on docker's client is a package of its own. */
const PEERS: readonly (readonly [string, string])[] = [
  ['podman', 'podman'],
  ['crun', 'crun'],
  ['runc', 'runc'],
  ['conmon', 'conmon'],
  ['containerd', 'containerd'],
  ['dockerd', 'docker.io'],
  ['/usr/bin/docker', 'docker-cli'],
  ['docker-registry', 'docker-registry'],
  ['skopeo', 'skopeo'],
  ['umoci', 'umoci'],
  ['zstd', 'zstd'],
  ['g++', 'g++'],
  ['ip', 'iproute2'],
  ['iptables', 'iptables'],
  ['/bin/busybox', 'busybox-static'],
  ['/usr/lib/cni/bridge', 'containernetworking-plugins'],
]

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    suites: { type: 'string' },
    peer: { type: 'string', multiple: true, default: [] },
    image: { type: 'string' },
    record: { type: 'boolean', default: false },
    json: { type: 'string' },
  },
})

/** One by one: a package that this Debian does not have keeps no other away. */
function installPeers(): void {
  if (PEERS.every(([program]) => has(program)) || !has('apt-get')) return
  const options = ['-qq', '-o', 'DPkg::Lock::Timeout=300']
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  const toStderr = ['ignore', 2, 2] as const
  progress('the list of packages is read')
  spawnSync('apt-get', [...options, 'update'], { stdio: [...toStderr], env })
  for (const [program, name] of PEERS) {
    if (has(program)) continue
    progress(`${name} is installed`)
    const install = [...options, 'install', '-y', '--no-install-recommends', name]
    if (spawnSync('apt-get', install, { stdio: [...toStderr], env }).status !== 0)
      progress(`${name} cannot be installed: the suites say what they leave out`)
  }
}

function peers(): string[] {
  return [
    ...values.peer.flatMap((peer) => ['--peer', peer]),
    ...(values.image === undefined ? [] : ['--image', values.image]),
  ]
}

/** By a signal: the suite that runs ends and cleans up, what was measured is told. */
const interrupt = new AbortController()
const interruption = interrupt.signal
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => interrupt.abort())

/** What its suites have measured, which it prints, too; of one that failed, until then. */
async function run(
  program: Program,
  suites: readonly string[],
  directory: string,
  limitMs: number,
): Promise<Ended> {
  const { name, quick, whole, chooses = false, isOfTheCri = false } = program
  const json = join(directory, `${name}.json`)
  const what = suites.join(', ')
  process.stdout.write(`\n# ${what}\n`)
  const args = [
    join(REPOSITORY, 'dist/bench', `${name}.js`),
    ...(values.quick ? quick : whole),
    ...(chooses ? ['--suites', suites.join(',')] : []),
    ...(isOfTheCri ? peers() : []),
    ...['--json', json],
  ]
  const begin = performance.now()
  const ended = await runProgram({ what, args, json, limitMs, signal: interruption })
  const { status } = ended
  const seconds = Math.round((performance.now() - begin) / 1000)
  progress(`${name}: ${status === 0 ? 'done' : `failed (${status})`} after ${seconds} s`)
  if (status !== 0) process.stdout.write(`${what}: failed (${status})\n`)
  return ended
}

/** Versions are those that a reader needs to judge a ratio; of runtimes that were given, as they tell them. */
function machine(given: readonly string[]): string {
  const first = (command: string, ...args: string[]) =>
    /\d+\.\d+(\.\d+)?/.exec(spawnSync(command, args, { encoding: 'utf8' }).stdout ?? '')?.[0] ??
    'none'
  const peers = ['crun', 'runc', 'podman', 'containerd', 'dockerd']
  const versions = peers.filter(has).map((name) => `${name} ${first(name, '--version')}`)
  const all = cpus()
  return [
    `${all.length} cores, ${all[0]?.model.trim()}`,
    `${Math.round(totalmem() / 2 ** 30)} GiB`,
    `Linux ${release()}`,
    `Node ${process.versions.node}`,
    ...versions,
    ...given,
  ].join(', ')
}

/** Each work in a line, with berth's place among all. */
function placesOf(rows: readonly Row[]): string {
  const lines = rows.flatMap((row) =>
    summaryOf(row).map(({ subject, is, best, ratio, place, floor }) => [
      `${row.work} (${row.unit})`,
      ...[subject, is, best, ratio, place, floor],
    ]),
  )
  const head = ['work', 'ours', 'is', 'best peer', 'ratio', 'place', 'of the floor']
  return aligned([head, ...lines], 2)
}

async function main(): Promise<void> {
  const wanted = values.suites?.split(',') ?? SUITES
  const unknown = wanted.find((name) => !SUITES.includes(name))
  if (unknown !== undefined) throw new Error(`--suites ${unknown}: must be of ${SUITES.join(', ')}`)
  // What takes half an hour is not to fail at its end.
  if (values.json !== undefined) closeSync(openSync(values.json, 'a'))
  installPeers()
  const begin = performance.now()
  const leftMs = () =>
    values.quick ? Math.max(0, QUICK_MS - (performance.now() - begin)) : LIMIT_MS
  const directory = mkdtempSync(join(tmpdir(), 'berth-bench-'))
  try {
    const results: Ended[] = []
    for (const program of PROGRAMS) {
      const suites = program.suites.filter((name) => wanted.includes(name))
      if (suites.length === 0 || interruption.aborted) continue
      results.push(await run(program, suites, directory, leftMs()))
    }
    const rows = results.flatMap(({ report }) => report.rows)
    const notes = [...new Set(results.flatMap(({ report }) => report.notes))]
    const judged = judge(rows)
    const text = machine([...new Set(results.flatMap(({ report }) => report.peers))])
    process.stdout.write(`\n# ${text}\n\n${placesOf(rows)}\n`)
    process.stdout.write(`\n# Required on the way\n\n${aligned(judgement(judged, 'before'))}\n`)
    process.stdout.write(`\n# Required\n\n${aligned(judgement(judged, 'now'))}\n`)
    if (notes.length > 0) process.stdout.write(`\n${notes.join('\n')}\n`)
    if (values.json !== undefined) {
      const all = { machine: text, judged, rows, notes }
      writeFileSync(values.json, JSON.stringify(all, undefined, 2))
    }
    if (values.record && !interruption.aborted)
      record({ machine: text, quick: values.quick, judged, rows, notes })
    if (
      interruption.aborted ||
      results.some(({ status }) => status !== 0) ||
      judged.some(({ isMet }) => isMet === false)
    )
      process.exitCode = 1
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

await main()
