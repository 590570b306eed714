/**
 * Kubernetes' tunnel, as kubectl opens it: SPDY's bytes in binary messages of a WebSocket. Its subprotocol has a slash in its name, which no client library
 * of Node offers; so this is one by hand, as far as a test needs it.
 */
import { randomBytes } from 'node:crypto'
import http from 'node:http'
import { Duplex } from 'node:stream'

export interface Tunnel {
  readonly stream: Duplex
  /** The subprotocol of the answer. */
  readonly protocol: string | undefined
}

const BINARY = 0x82
const CLOSE = 8

export function openTunnel(url: string, protocol: string): Promise<Tunnel> {
  return new Promise((resolve, reject) => {
    const request = http.request(url, {
      agent: false,
      headers: {
        connection: 'Upgrade',
        upgrade: 'websocket',
        'sec-websocket-version': '13',
        'sec-websocket-key': randomBytes(16).toString('base64'),
        'sec-websocket-protocol': protocol,
      },
    })
    request.on('response', (response) => reject(new Error(`${response.statusCode}`)))
    request.on('error', reject)
    request.on('upgrade', (response, socket, head) => {
      const stream = new Duplex({
        read() {},
        write(chunk: Buffer, _encoding, done) {
          socket.write(masked(chunk), done)
        },
        final(done) {
          socket.end(done)
        },
        destroy(error, done) {
          socket.destroy()
          done(error)
        },
      })
      let rest = Buffer.alloc(0)
      const read = (chunk: Buffer): void => {
        rest = Buffer.concat([rest, chunk])
        for (;;) {
          const short = (rest[1] ?? 0) & 127
          const head = short === 127 ? 10 : short === 126 ? 4 : 2
          if (rest.length < head) return
          const length =
            short === 127 ? rest.readUInt32BE(6) : short === 126 ? rest.readUInt16BE(2) : short
          if (rest.length < head + length) return
          if (((rest[0] ?? 0) & 15) === CLOSE) stream.push(null)
          else stream.push(rest.subarray(head, head + length))
          rest = rest.subarray(head + length)
        }
      }
      socket.on('data', read)
      socket.on('close', () => stream.destroy())
      socket.on('error', () => stream.destroy())
      if (head.length > 0) read(head)
      const answered = response.headers['sec-websocket-protocol']
      resolve({ stream, protocol: answered })
    })
    request.end()
  })
}

function masked(data: Buffer): Buffer {
  const head = Buffer.alloc(10)
  head.writeUInt8(BINARY, 0)
  head.writeUInt8(0x80 | 127, 1)
  head.writeUInt32BE(data.length, 6)
  const mask = randomBytes(4)
  const body = Buffer.from(data.map((byte, i) => byte ^ (mask[i % 4] ?? 0)))
  return Buffer.concat([head, mask, body])
}
