import { connectMonitor } from '../../src/container/monitor.ts'

/**
 * A client to be killed: `node monitor-client.js DIRECTORY ID`. Attaches with stdin, reads a little, writes to stdin, and holds everything open.
 */
const [directory = '', id = ''] = process.argv.slice(2)
const monitor = await connectMonitor(directory)
const session = await monitor.attach(id, { stdin: true })
console.log('attached')
session.write(Buffer.alloc(1024 * 1024, 'x')).catch(() => {})
for await (const _ of session.output) {
  console.log('reading')
  break
}
setInterval(() => {}, 1000)
