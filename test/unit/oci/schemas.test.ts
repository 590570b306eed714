import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Fault } from '../../../src/base/fault.ts'
import { parseDocument } from '../../../src/oci/config.ts'
import { features } from '../../../src/oci/features.ts'
import { asSpec } from '../../../src/oci/shape.ts'
import { exampleSpec } from '../../../src/oci/spec.ts'
import { stateOf } from '../../../src/oci/status.ts'
import { Changes, pathsOf } from '../../fuzz/json.ts'
import { Chance } from '../../fuzz/mutate.ts'
import { REPOSITORY } from '../../lib/images.ts'
import { runtimeSchemas } from '../../lib/schemas.ts'

const EXAMPLES = join(REPOSITORY, 'test/spec/runtime/test')

for (const name of runtimeSchemas.names) {
  test(`${name} is a schema`, () => assert.ok(runtimeSchemas.isSchema(name)))
}

/** What berth says to a configuration: undefined where it reads it. */
function refusal(text: string): string | undefined {
  try {
    asSpec('config.json', parseDocument('config.json', text))
    return undefined
  } catch (error) {
    if (error instanceof Fault) return error.message
    throw error
  }
}

function examplesOf(folder: string): [name: string, text: string][] {
  const directory = join(EXAMPLES, folder)
  return readdirSync(directory).map((name) => [name, readFileSync(join(directory, name), 'utf8')])
}

for (const [name, text] of examplesOf('config/good')) {
  test(`the specification's good example ${name} is valid, and berth reads it`, () => {
    assert.equal(runtimeSchemas.violations('config-schema', JSON.parse(text)), [])
    assert.is(refusal(text), undefined)
  })
}

/** What berth names of each. */
const BAD: Readonly<Record<string, RegExp>> = {
  'freebsd-vnet-disable.json': /^freebsd\.jail\.vnet: "disable" is none of new, inherit$/,
  'invalid-json.json': /^config\.json is no JSON/,
  'linux-hugepage.json': /^linux\.resources\.hugepageLimits\[0\]\.pageSize: "64kB" is no size/,
  'linux-netdevice.json': /^linux\.netDevices\.eth0\.name: 23 is no text$/,
  'linux-rdma.json': /^linux\.resources\.rdma\.mlx5_1\.hcaHandles: "not a uint32" is no whole/,
}
for (const [name, text] of examplesOf('config/bad')) {
  test(`the specification's bad example ${name} is refused by the name of its field`, () => {
    assert.ok(name in BAD, `${name} is new: say what berth answers`)
    assert.match(refusal(text) ?? 'it is read', BAD[name] ?? /$^/)
    if (name !== 'invalid-json.json') {
      assert.is.not(runtimeSchemas.violations('config-schema', JSON.parse(text)).length, 0)
    }
  })
}

test('what berth-oci features and state print is valid, as are the good examples of the specification', () => {
  assert.equal(runtimeSchemas.violations('features-schema', features()), [])
  const record = {
    id: 'a',
    ociVersion: '1.3.0',
    bundle: '/b',
    rootfs: '/b/rootfs',
    created: '',
    annotations: { a: 'b' },
    cgroup: '',
    pid: 5,
  }
  for (const status of ['creating', 'created', 'running', 'stopped'] as const) {
    assert.equal(runtimeSchemas.violations('state-schema', stateOf(record, status)), [])
  }
  for (const kind of ['features', 'state'] as const) {
    for (const [, text] of examplesOf(`${kind}/good`)) {
      assert.equal(runtimeSchemas.violations(`${kind}-schema`, JSON.parse(text)), [])
    }
  }
})

/** Where berth takes more than the schema, and why. */
const LENIENT: readonly [violation: RegExp, why: string][] = [
  [/^\/linux\/rootfsPropagation must be equal/, 'engines write rslave; plan/ knows the words'],
  [/^\/linux\/namespaces\/\d+(\/type)? must/, 'plan/ knows the types'],
  [/^\/linux\/seccomp\/\S* must be equal to one of/, 'seccomp/ knows the words'],
  [/^\/linux\/memoryPolicy\/\S+ must be equal/, 'plan/ knows the words'],
  [/^\/linux\/personality\/domain must be equal/, 'plan/ knows the words'],
  [/^\/process\/scheduler\/\S+ must be equal/, 'plan/ knows the words'],
  [/^\/process\/rlimits\/\d+\/(soft|hard) must be >= 0/, 'engines write -1 for no limit'],
  [/^\/process\/oomScoreAdj must be integer/, 'only in 64 bits'],
  [/fileMode must be <= 511/, 'a device may be setuid; plan/ has the bound'],
  [/^\/linux\/resources\/pids must have required property/, 'empty, it asks for nothing'],
  [/^\/linux\/intelRdt\/memBwSchema must match/, 'refused as a whole'],
  [/^\/(vm|solaris|windows)\b/, 'other systems, which berth does not read'],
  [/^\/freebsd\/(jail\/allow|devices)/, 'another system'],
  [/must match a schema in anyOf/, 'told beside the reason'],
]

test('configurations changed at random are refused where the schema says so, and only there', () => {
  const seeds = [
    JSON.stringify(exampleSpec()),
    ...examplesOf('config/good').map(([, text]) => text),
  ].map((text) => JSON.parse(text) as object)
  const chance = new Chance(20261)
  let refused = 0
  for (let round = 0; round < 2000; round++) {
    const { document, what } = new Changes(chance).of(chance.of(seeds))
    const text = JSON.stringify(document)
    const broken = runtimeSchemas.violations('config-schema', JSON.parse(withoutNull(text)))
    const said = refusal(text)
    if (said !== undefined) refused++
    const serious = broken.filter((line) => !LENIENT.some(([pattern]) => pattern.test(line)))
    if (serious.length > 0 && said === undefined) {
      assert.unreachable(`read after ${what}, though ${serious.join('; ')}`)
    }
    if (broken.length === 0 && said !== undefined) {
      assert.unreachable(`valid after ${what}, but: ${said}`)
    }
  }
  assert.ok(refused > 200, `only ${refused} were refused`)
  assert.ok(refused < 1800, `${refused} were refused`)
})

/** Go writes null for what is not given, and berth reads it so; the schema does not know it. */
function withoutNull(text: string): string {
  return JSON.stringify(JSON.parse(text), (_key, value: unknown) =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).filter(([, part]) => part !== null))
      : value,
  )
}

test('every field of the example is looked at: another kind of value there is refused', () => {
  const example = exampleSpec()
  for (const path of pathsOf(example)) {
    if (path.length === 0) continue
    const document = structuredClone(example) as unknown as Record<string, unknown>
    let parent: Record<string | number, unknown> = document
    for (const key of path.slice(0, -1)) parent = parent[key] as Record<string, unknown>
    const key = path.at(-1) ?? ''
    parent[key] = typeof parent[key] === 'string' ? 7 : 'text'
    assert.ok(refusal(JSON.stringify(document)), `${path.join('.')} is not looked at`)
  }
})

test.run()
