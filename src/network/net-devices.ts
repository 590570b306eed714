import { openSync } from 'node:fs'
import { constants } from 'node:os'
import { Fault } from '../base/fault.ts'
import { O_RDONLY } from '../kernel/constants.ts'
import { Fd } from '../kernel/fd.ts'
import {
  addKept,
  getAddresses,
  getLink,
  moveLink,
  parseKept,
  parseLink,
  setDown,
  setUp,
} from './netlink.ts'
import { inNetwork, Refused } from './network-acts.ts'

/**
 * runtime-spec, "Network Devices": moves an interface of our network namespace into the one at the path, under the new name, with its permanent addresses of
 * global scope, and brings it up there. Whoever ends the namespace gives it back: the kernel does with hardware, and deletes what is virtual.
 */
export async function moveNetDevice(name: string, newName: string, netns: string): Promise<void> {
  const field = `linux.netDevices[${JSON.stringify(name)}]`
  const link = parseLink(await one('', getLink(name), field, 'this host has no such interface'))
  const { index } = link
  const kept = parseKept(
    await one('', getAddresses(), field, 'its addresses cannot be read'),
    index,
  )
  await refuseTaken(newName, netns, field)
  using place = new Fd(openSync(netns, O_RDONLY))
  // As it is, it would be used while it goes.
  await one('', setDown(index), field, 'it cannot be brought down')
  try {
    await one('', moveLink(index, newName, place.number), field, `it cannot be moved to ${newName}`)
  } catch (error) {
    if (link.isUp) await inNetwork('', [setUp(index)])
    throw error
  }
  const moved = parseLink(await one(netns, getLink(newName), field, 'it is gone'))
  const acts = [...kept.map((address) => addKept(moved.index, address)), setUp(moved.index)]
  await said(field, 'its addresses cannot be set', inNetwork(netns, acts))
}

/** Before anything is done: the kernel moves it first, and then fails to rename it. */
async function refuseTaken(name: string, netns: string, field: string): Promise<void> {
  try {
    await inNetwork(netns, [getLink(name)])
  } catch (error) {
    if (error instanceof Refused && error.errno === constants.errno.ENODEV) return
    throw error
  }
  throw new Fault('ALREADY_EXISTS', `${field}: the container has an interface ${name} already`)
}

async function one(netns: string, act: Buffer, field: string, what: string): Promise<Buffer> {
  const [answer = Buffer.alloc(0)] = await said(field, what, inNetwork(netns, [act]))
  return answer
}

async function said<T>(field: string, what: string, done: Promise<T>): Promise<T> {
  try {
    return await done
  } catch (error) {
    if (!(error instanceof Refused)) throw error
    const { errno } = error
    const name = Object.entries(constants.errno).find(([, number]) => number === errno)?.[0]
    throw new Fault('FAILED_PRECONDITION', `${field}: ${what}: ${name ?? errno}`, { cause: error })
  }
}
