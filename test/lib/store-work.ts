/**
 * A process that does one work on a store, to be killed in it. It reads lines `JSON of Order` and answers each with a line: the number of kernel
 * calls that the work took.
 */
import { createInterface } from 'node:readline'
import { openStore } from '../../src/image/index.ts'
import { dieAt } from './faults.ts'
import { type Work, workOn } from './store-works.ts'

export interface Order {
  readonly work: Work
  readonly root: string
  /** A name, or of a load the layout's path. */
  readonly name: string
  /** The kernel call to die before; 0: none. */
  readonly dieAt: number
}

process.stdout.write('ready\n')
for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line) as Order
  const { calls } = dieAt(order.dieAt)
  await workOn(openStore(order.root, { durable: false }), order.work, order.name)
  const count = calls()
  process.stdout.write(`${count}\n`)
}
