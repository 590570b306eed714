/**
 * berth against the runtimes that people have, all suites: `npm run bench`.
 *
 *   sudo npm run bench -- [--quick] [--suites run,cri,…] [--peer NAME=SOCKET[,HANDLER]]… [--image REF] [--record] [--json FILE]
 *
 * Peers that are missing are installed from Debian where apt-get is there. `--quick` takes fewer rounds: under ten minutes. `--record` adds the run to
 * bench/history.json and draws it into docs/performance.svg, which docs/performance.md shows with the machine. With `--peer` the suites of the CRI run beside
 * these runtimes, such as a CRI-O that runs already, and not beside a containerd of the bench's own. The exit status is 1 where a suite failed or a wanted figure was missed.
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, release, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { REPOSITORY } from '../test/lib/images.ts'
import { has } from './engines.ts'
import { record } from './history.ts'
import { aligned, number, type Row } from './report.ts'
import { type Judged, judge } from './required.ts'

interface Suite {
  readonly name: string
  readonly quick: readonly string[]
  readonly whole: readonly string[]
}

const SUITES: readonly Suite[] = [
  { name: 'run', quick: ['--rounds', '5', '--lines', '1'], whole: ['--rounds', '20'] },
  { name: 'oci', quick: ['--rounds', '10'], whole: ['--rounds', '40'] },
  { name: 'cri', quick: ['--rounds', '5', '--pods', '0'], whole: ['--rounds', '20'] },
  { name: 'scale', quick: ['--pods', '1,10,100,300', '--rounds', '5'], whole: ['--rounds', '10'] },
  {
    name: 'images',
    quick: ['--scale', '0.1', '--rounds', '2', '--compressions', 'gzip', '--states', 'cold'],
    whole: ['--rounds', '3'],
  },
]

/** Program, Debian package. */
const PEERS: readonly (readonly [string, string])[] = [
  ['podman', 'podman'],
  ['crun', 'crun'],
  ['runc', 'runc'],
  ['conmon', 'conmon'],
  ['containerd', 'containerd'],
  ['dockerd', 'docker.io'],
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

function installPeers(): void {
  const packages = PEERS.filter(([program]) => !has(program)).map(([, name]) => name)
  if (packages.length === 0 || !has('apt-get')) return
  process.stdout.write(`installing ${packages.join(', ')}\n`)
  const options = ['-qq', '-o', 'DPkg::Lock::Timeout=300']
  spawnSync('apt-get', [...options, 'update'], { stdio: 'inherit' })
  const install = [...options, 'install', '-y', '--no-install-recommends', ...packages]
  if (spawnSync('apt-get', install, { stdio: 'inherit' }).status !== 0)
    process.stdout.write('not all could be installed: the suites say what they leave out\n')
}

const OF_THE_CRI = ['cri', 'scale']

function peers(suite: string): string[] {
  if (!OF_THE_CRI.includes(suite)) return []
  return [
    ...values.peer.flatMap((peer) => ['--peer', peer]),
    ...(values.image === undefined ? [] : ['--image', values.image]),
  ]
}

/** The rows of a suite, which prints them, too; undefined where it failed. */
function run({ name, quick, whole }: Suite, directory: string): Row[] | undefined {
  const file = join(directory, `${name}.json`)
  const program = join(REPOSITORY, 'dist/bench', `${name}.js`)
  process.stdout.write(`\n# ${name}\n`)
  const args = [program, ...(values.quick ? quick : whole), ...peers(name), '--json', file]
  const { status } = spawnSync(process.execPath, args, { stdio: 'inherit' })
  if (status === 0) return JSON.parse(readFileSync(file, 'utf8')) as Row[]
  process.stdout.write(`${name}: failed\n`)
  return undefined
}

/** Versions are those that a reader needs to judge a ratio. */
function machine(): string {
  const first = (command: string, ...args: string[]) =>
    /\d+\.\d+(\.\d+)?/.exec(spawnSync(command, args, { encoding: 'utf8' }).stdout ?? '')?.[0] ??
    'none'
  const peers = ['crun', 'runc', 'podman', 'containerd', 'dockerd']
  const versions = peers.filter(has).map((name) => `${name} ${first(name, '--version')}`)
  const all = cpus()
  return [
    `${all.length} cores, ${all[0]?.model.trim()}`,
    `Linux ${release()}`,
    `Node ${process.versions.node}`,
    ...versions,
  ].join(', ')
}

function verdict(judged: readonly Judged[]): string {
  const lines = judged.map(({ what, unit, most, least, value, isMet }) => [
    what,
    value === undefined ? '' : `${number(value)}${unit === 'x' ? 'x' : ` ${unit}`}`,
    `${most === undefined ? 'at least' : 'at most'} ${most ?? least}${unit === 'x' ? 'x' : ` ${unit}`}`,
    isMet === undefined ? 'not measured' : isMet ? 'met' : 'MISSED',
  ])
  return aligned([['wanted, to the best peer', 'is', 'wanted', ''], ...lines])
}

function main(): void {
  const wanted = values.suites?.split(',')
  const unknown = wanted?.find((name) => !SUITES.some((suite) => suite.name === name))
  if (unknown !== undefined) {
    const names = SUITES.map(({ name }) => name).join(', ')
    throw new Error(`--suites ${unknown}: must be of ${names}`)
  }
  installPeers()
  const directory = mkdtempSync(join(tmpdir(), 'berth-bench-'))
  try {
    const results = SUITES.filter(({ name }) => wanted?.includes(name) ?? true).map((suite) =>
      run(suite, directory),
    )
    const rows = results.flatMap((result) => result ?? [])
    const judged = judge(rows)
    const text = machine()
    process.stdout.write(`\n# ${text}\n\n${verdict(judged)}\n`)
    if (values.json !== undefined)
      writeFileSync(values.json, JSON.stringify({ machine: text, judged, rows }, undefined, 2))
    if (values.record) record({ machine: text, quick: values.quick, judged })
    if (results.includes(undefined) || judged.some(({ isMet }) => isMet === false))
      process.exitCode = 1
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

main()
