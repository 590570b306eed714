/** CVE-2024-21626: a working directory that is one of our own descriptors, and descriptors that leak. */
import { symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { type Given, ID_MAPPINGS, NEW, Place, probe } from '../lib/inside.ts'
import { needs } from '../lib/needs.ts'
import { traces } from '../lib/traces.ts'

needs('root', 'overlay')

const place = new Place()
const clean = traces({ roots: [place.directory] })
const FDS = Array.from({ length: 12 }, (_, i) => i)
const USER: Partial<Given> = {
  namespaces: [...NEW, 'user' as const].map((type) => ({ type })),
  idMappings: ID_MAPPINGS,
}

for (const fd of FDS) symlinkSync(`/proc/self/fd/${fd}`, join(place.lower, `fd-${fd}`))

function refused(given: Given, exec?: Given): void {
  const ran = place.run(given, exec)
  assert.is(ran.code, 125, ran.out)
  assert.match(ran.err, /^cwd: /)
}

for (const fd of FDS) {
  test(`working directory /proc/self/fd/${fd} is refused, by name, by a link, in exec`, () => {
    for (const cwd of [`/proc/self/fd/${fd}`, `/fd-${fd}`, `/proc/self/fd/${fd}/..`]) {
      refused({ ...probe('pwd'), process: { cwd } })
    }
    refused({ ...probe('pwd'), ...USER, process: { cwd: `/proc/self/fd/${fd}` } })
    place.reset()
    refused(probe('trap'), { ...probe('pwd'), process: { cwd: `/proc/self/fd/${fd}` } })
  })
}

test('a program has no descriptor but its stdio, in run, exec, under a user namespace and --init', () => {
  const only = /^0 .*\n1 .*\n2 .*\n$/
  assert.match(place.run(probe('fds')).out, only)
  assert.match(place.run({ ...probe('fds'), reaper: true }).out, only)
  assert.match(place.run(probe('trap'), probe('fds')).out, only)
  assert.match(
    place.run({ ...probe('fds'), process: { terminal: true } }).out,
    /^(\d \/dev\/pts\/0\r?\n){3}$/,
  )
  assert.match(place.run({ ...probe('fds'), ...USER }).out, only)
  place.reset()
})

test('PID 1 of --init holds nothing open and cannot be looked into', () => {
  const ran = place.run({ ...probe('ls', '/proc/1/fd'), reaper: true })
  assert.is(ran.out.trim(), '', ran.err)
  const exe = place.run({
    ...probe('open', '/proc/1/exe', 'r'),
    reaper: true,
    process: {
      capabilities: { bounding: 0n, effective: 0n, permitted: 0n, inheritable: 0n, ambient: 0n },
    },
  })
  assert.match(exe.err, /EACCES|EPERM/)
})

test('nothing is left behind', async () => {
  place.remove()
  await clean()
})

test.run()
