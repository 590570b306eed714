import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import type { RequestOptions } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Fault } from '../../../src/base/fault.ts'
import { type Handlers, type Session, StreamServer } from '../../../src/stream/index.ts'
import { eventually } from '../../lib/eventually.ts'
import { needing } from '../../lib/needs.ts'
import {
  type ClientStream,
  clientDataFrame,
  connectSpdy,
  controlFrame,
  type SpdyClient,
  upgrade,
} from '../../lib/spdy-client.ts'
import { exec, PIPES, TERMINAL, withServer } from '../../lib/stream-server.ts'
import { HandSession, processSession } from '../../lib/stream-session.ts'

const V4 = ['v4.channel.k8s.io', 'v3.channel.k8s.io', 'v2.channel.k8s.io', 'channel.k8s.io']

const FORWARD_REQUEST = { kind: 'portforward', target: 'pod', ports: [] } as const

interface Command {
  readonly client: SpdyClient
  readonly error: ClientStream
  readonly stdin: ClientStream
  readonly stdout: ClientStream
  readonly stderr: ClientStream
  readonly resize: ClientStream
}

/** Connects as kubelet does: the streams that the request asks for, the error's first. */
async function openCommand(
  url: string,
  protocols = V4,
  stdio = PIPES,
  tls: RequestOptions = {},
): Promise<Command> {
  const client = await connectSpdy(url, protocols, { tls })
  const open = (streamtype: string) => client.open({ streamtype })
  const error = await open('error')
  const none = { ...error, id: 0 }
  const resizes = stdio.terminal && /v[34]/.test(protocols[0] ?? '')
  return {
    client,
    error,
    stdin: stdio.stdin ? await open('stdin') : none,
    stdout: stdio.stdout ? await open('stdout') : none,
    stderr: stdio.stderr ? await open('stderr') : none,
    resize: resizes ? await open('resize') : none,
  }
}

const ended = (stream: ClientStream) => eventually(`stream ${stream.id} ends`, () => stream.isEnded)
const closed = (client: SpdyClient) => eventually('the connection closes', () => client.isClosed)

const runs: Partial<Handlers> = { exec: async ({ command }) => processSession(command) }

const command = suite('commands over SPDY')

command('stdin goes in, its end too, and the output comes back before the status', async () => {
  await withServer(runs, async (server) => {
    const { client, stdin, stdout, stderr, error } = await openCommand(server.url(exec(['cat'])))
    client.write(stdin, 'hello, ')
    client.write(stdin, 'world')
    await eventually('the echo', () => client.text(stdout) === 'hello, world')
    client.end(stdin)
    await ended(error)
    assert.equal(JSON.parse(client.text(error)), { metadata: {}, status: 'Success' })
    await closed(client)
    assert.is(client.goAway, 0)
    const order = client.order.join(' ')
    assert.ok(
      order.endsWith(
        `${stdout.id} end ${stderr.id} end ${error.id} data ${error.id} end ${stdin.id} end`,
      ),
      order,
    )
  })
})

command('stdout and stderr are told apart', async () => {
  await withServer(runs, async (server) => {
    const { client, stdout, stderr, error } = await openCommand(
      server.url(exec(['sh', '-c', 'echo out; echo err >&2'])),
    )
    await ended(error)
    assert.is(client.text(stdout), 'out\n')
    assert.is(client.text(stderr), 'err\n')
  })
})

command('only what was asked for is opened, and the other output is dropped', async () => {
  await withServer(runs, async (server) => {
    const stdio = { stdin: false, stdout: false, stderr: true, terminal: false }
    const url = server.url(exec(['sh', '-c', 'echo out; echo err >&2'], stdio))
    const { client, stderr, error } = await openCommand(url, V4, stdio)
    await ended(error)
    assert.is(client.text(stderr), 'err\n')
  })
})

command('the exit code is told as the version has it', async () => {
  await withServer(runs, async (server) => {
    for (const protocols of [
      V4,
      ['v3.channel.k8s.io'],
      ['v2.channel.k8s.io'],
      ['channel.k8s.io'],
      [],
    ]) {
      const { client, error } = await openCommand(
        server.url(exec(['sh', '-c', 'exit 7'])),
        protocols,
      )
      await ended(error)
      const message = 'command terminated with non-zero exit code: exit status 7'
      if (protocols === V4) {
        assert.equal(JSON.parse(client.text(error)), {
          metadata: {},
          status: 'Failure',
          message,
          reason: 'NonZeroExitCode',
          details: { causes: [{ reason: 'ExitCode', message: '7' }] },
        })
      } else assert.is(client.text(error), message)
      await closed(client)
    }
  })
})

command('up to version 3, success is an error stream without a word', async () => {
  await withServer(runs, async (server) => {
    const { client, error } = await openCommand(server.url(exec(['true'])), ['v3.channel.k8s.io'])
    await ended(error)
    assert.is(client.text(error), '')
  })
})

command('what a handler throws is told, as an internal error', async () => {
  const handlers: Partial<Handlers> = {
    exec: async () => {
      throw new Fault('NOT_FOUND', 'cannot find nothing in $PATH')
    },
  }
  await withServer(handlers, async (server) => {
    const { client, error } = await openCommand(server.url(exec(['nothing'])))
    await ended(error)
    assert.equal(JSON.parse(client.text(error)), {
      metadata: {},
      status: 'Failure',
      message:
        'Internal error occurred: error executing command in container: cannot find nothing in $PATH',
      reason: 'InternalError',
      code: 500,
    })
    const plain = await openCommand(server.url(exec(['nothing'])), ['v2.channel.k8s.io'])
    await ended(plain.error)
    assert.match(plain.client.text(plain.error), 'cannot find nothing')
  })
})

command('a process that is lost is an internal error', async () => {
  const session = new HandSession()
  await withServer({ exec: async () => session }, async (server) => {
    const { client, error } = await openCommand(server.url(exec(['x'])))
    session.finish(-1)
    await ended(error)
    assert.match(client.text(error), 'the monitor was lost')
  })
})

command('an attached client is told that it ended, and not the code', async () => {
  const session = new HandSession()
  await withServer({ attach: async () => session }, async (server) => {
    const url = server.url({ kind: 'attach', target: 'box', ...PIPES })
    const { client, error, stdout } = await openCommand(url)
    session.say('so far')
    await eventually('the output', () => client.text(stdout) === 'so far')
    session.finish(3)
    await ended(error)
    assert.is(JSON.parse(client.text(error)).status, 'Success')
  })
})

command('a terminal follows the sizes of its client, however they are cut', async () => {
  const session = new HandSession()
  await withServer({ exec: async () => session }, async (server) => {
    const url = server.url(exec(['sh'], TERMINAL))
    const { client, resize, stdout } = await openCommand(url, V4, TERMINAL)
    client.write(resize, '{"Width":80,"Height":24}\n')
    await eventually('the size', () => client.text(stdout) === '[80x24]')
    client.write(resize, '{"Width":100,"Hei')
    client.write(resize, 'ght":30}{"Width":0,"Height":0}{"width":7,"height":9}\n')
    await eventually('the sizes', () => session.sizes.length === 3)
    assert.equal(session.sizes, ['80x24', '100x30', '7x9'])
    client.write(resize, '{"Width":70000,"Height":1}{"Width":1,"Height":1}')
    session.say('still there')
    await eventually('the rest', () => client.text(stdout).endsWith('still there'))
    assert.is(session.sizes.length, 3)
  })
})

command('version 2 has no sizes', async () => {
  const session = new HandSession()
  await withServer({ exec: async () => session }, async (server) => {
    const url = server.url(exec(['sh'], TERMINAL))
    const { client, stdout } = await openCommand(url, ['v2.channel.k8s.io'], TERMINAL)
    session.say('ready')
    await eventually('the output', () => client.text(stdout) === 'ready')
  })
})

const PIECE = Buffer.alloc(32 * 1024, 'x')

function* pieces(bytes: number): Generator<{ stream: 'stdout'; data: Buffer }> {
  for (let done = 0; done < bytes; done += PIECE.length) yield { stream: 'stdout', data: PIECE }
}

command('a slow reader holds back the process, and gets everything in the end', async () => {
  const total = 64 * 1024 * 1024
  const session = new HandSession(pieces(total))
  await withServer({ exec: async () => session }, async (server) => {
    const { client, stdout, error } = await openCommand(server.url(exec(['big'])))
    client.keepsData = false
    client.socket.pause()
    let before = -1
    await eventually('the process stands still', async () => {
      const now = session.produced
      const stands = now === before && now > 0
      before = now
      await new Promise((resolve) => setTimeout(resolve, 100))
      return stands
    })
    // What the kernel takes for a loopback connection, and little of ours.
    assert.ok(session.produced < 32 * 1024 * 1024, `${session.produced}`)
    client.socket.resume()
    await ended(error)
    assert.is(stdout.bytes, total)
  })
})

command(
  'a process that reads slowly holds back its client, and gets everything in the end',
  async () => {
    const session = new HandSession()
    let release = (): void => {}
    const released = new Promise<void>((resolve) => {
      release = resolve
    })
    session.beforeWrite = () => released
    await withServer({ exec: async () => session }, async (server) => {
      const { client, stdin } = await openCommand(server.url(exec(['slow'])))
      const total = 48 * 1024 * 1024
      for (let sent = 0; sent < total; sent += PIECE.length) client.write(stdin, PIECE)
      client.end(stdin)
      let before = -1
      await eventually('the client cannot send more', async () => {
        const now = client.socket.writableLength
        const stands = now === before
        before = now
        await new Promise((resolve) => setTimeout(resolve, 100))
        return stands
      })
      assert.ok(client.socket.writableLength > total / 2, `${client.socket.writableLength}`)
      assert.not(session.isInputClosed)
      release()
      await eventually('the end of stdin', () => session.isInputClosed)
      assert.is(session.inputBytes, total)
    })
  },
)

command('a process that takes no more input does not hold up its output', async () => {
  await withServer(runs, async (server) => {
    const script = 'exec 0<&-; read x < /dev/null; sleep 0.2; echo done'
    const { client, stdin, stdout, error } = await openCommand(
      server.url(exec(['sh', '-c', script])),
    )
    for (let i = 0; i < 512; i++) client.write(stdin, PIECE)
    await ended(stdin)
    await ended(error)
    assert.is(client.text(stdout), 'done\n')
    // The client is told at once, and need not send the rest.
    const order = client.order.join(' ')
    assert.ok(order.startsWith(`${stdin.id} end ${stdout.id} data`), order)
    assert.is(JSON.parse(client.text(error)).status, 'Success')
  })
})

command(
  'a client that goes has its session closed, and its stdin is not taken for ended',
  async () => {
    for (const leave of ['destroy', 'goaway', 'end'] as const) {
      const session = new HandSession()
      let signal: AbortSignal | undefined
      const handlers: Partial<Handlers> = {
        exec: async (_, given) => {
          signal = given
          return session
        },
      }
      await withServer(handlers, async (server) => {
        const { client, stdout } = await openCommand(server.url(exec(['x'])))
        session.say('up')
        await eventually('the output', () => client.text(stdout) === 'up')
        if (leave === 'destroy') client.socket.destroy()
        else if (leave === 'end') client.socket.end()
        else client.socket.write(controlFrame(7, 0, Buffer.alloc(8)))
        await eventually('the session is closed', () => session.isClosed)
        assert.not(session.isInputClosed)
        assert.ok(signal?.aborted)
      })
    }
  },
)

command('a session that is opened after its client has gone is closed', async () => {
  const session = new HandSession()
  await withServer(
    {
      exec: async (_, signal) => {
        await new Promise((resolve) => signal.addEventListener('abort', resolve))
        return session
      },
    },
    async (server) => {
      const { client } = await openCommand(server.url(exec(['x'])))
      client.socket.destroy()
      await eventually('the session is closed', () => session.isClosed)
    },
  )
})

command('streams that do not come in time end the connection', async () => {
  await withServer(
    runs,
    async (server) => {
      const client = await connectSpdy(server.url(exec(['true'])), V4)
      await client.open({ streamtype: 'error' })
      await closed(client)
      assert.is(client.goAway, 0)
    },
    { creationTimeoutMs: 100 },
  )
})

command('a connection on which nothing happens ends, and a ping is something', async () => {
  const session = new HandSession()
  await withServer(
    { exec: async () => session },
    async (server) => {
      const { client } = await openCommand(server.url(exec(['x'])))
      for (let id = 1; id < 20; id += 2) {
        client.ping(id)
        await new Promise((resolve) => setTimeout(resolve, 50))
      }
      assert.not(client.isClosed)
      assert.equal(client.pongs, [1, 3, 5, 7, 9, 11, 13, 15, 17, 19])
      await closed(client)
      assert.ok(session.isClosed)
    },
    { idleTimeoutMs: 300 },
  )
})

command('odd streams are refused or ignored, and the command runs', async () => {
  await withServer(runs, async (server) => {
    const client = await connectSpdy(server.url(exec(['cat'])), V4)
    const error = await client.open({ streamtype: 'error' })
    const twice = await client.open({ streamtype: 'error' })
    assert.ok(twice.isReset)
    const unknown = await client.open({ streamtype: 'colour' })
    assert.ok(unknown.isReplied)
    client.write(unknown, 'blue')
    const unidirectional = await client.open({ streamtype: 'stdin' }, 2)
    assert.ok(unidirectional.isReset)
    const even = await client.openUnanswered({ streamtype: 'stdin' }, 0, 100)
    await eventually('an even number is refused', () => even.isReset)
    client.socket.write(clientDataFrame(77, Buffer.from('for nobody')))
    const stdin = await client.open({ streamtype: 'stdin' })
    const stdout = await client.open({ streamtype: 'stdout' })
    await client.open({ streamtype: 'stderr' })
    client.write(stdin, 'works', true)
    await ended(error)
    assert.is(client.text(stdout), 'works')
  })
})

command('a number that was used before ends the stream that has it', async () => {
  const session = new HandSession()
  await withServer({ exec: async () => session }, async (server) => {
    const { client, stdin } = await openCommand(server.url(exec(['x'])))
    await client.openUnanswered({ streamtype: 'stdin' }, 0, stdin.id)
    await eventually('it is reset', () => stdin.isReset)
  })
})

command('data after its end has a stream reset', async () => {
  const session = new HandSession()
  await withServer({ exec: async () => session }, async (server) => {
    const { client, stdin } = await openCommand(server.url(exec(['x'])))
    client.write(stdin, 'all', true)
    client.write(stdin, 'more')
    await eventually('it is reset', () => stdin.isReset)
    assert.is(session.inputBytes, 3)
  })
})

command('a frame that no client sends ends the connection, and its session', async () => {
  const session = new HandSession()
  await withServer({ exec: async () => session }, async (server) => {
    const { client } = await openCommand(server.url(exec(['x'])))
    client.socket.write(Buffer.from('8002000600000004', 'hex'))
    await closed(client)
    assert.is(client.goAway, 1)
    assert.ok(session.isClosed)
  })
})

command('pings of a client that never reads are not all kept', async () => {
  const session = new HandSession()
  await withServer({ exec: async () => session }, async (server) => {
    const { client } = await openCommand(server.url(exec(['x'])))
    client.socket.pause()
    const pings = Buffer.concat(
      Array.from({ length: 50_000 }, () => controlFrame(6, 0, Buffer.from([0, 0, 0, 1]))),
    )
    let sent = 0
    await eventually('the server reads no more', async () => {
      if (client.socket.writableLength > 2 * pings.length) return true
      client.socket.write(pings)
      sent += pings.length
      await new Promise(setImmediate)
      return false
    })
    assert.ok(sent < 64 * 1024 * 1024)
    client.socket.resume()
    await eventually('all are answered', () => client.pongs.length === sent / 12)
  })
})

command('many commands run at once', async () => {
  await withServer(
    {
      exec: async ({ command: [word = ''] }) => {
        const session = new HandSession()
        session.say(word)
        session.finish(0)
        return session
      },
    },
    async (server) => {
      const words = Array.from({ length: 300 }, (_, i) => `word ${i}`)
      const heard = await Promise.all(
        words.map(async (word) => {
          const { client, stdout, error } = await openCommand(server.url(exec([word])))
          await ended(error)
          return client.text(stdout)
        }),
      )
      assert.equal(heard, words)
    },
  )
})

command.run()

const url = suite('urls')

url('a token works once', async () => {
  await withServer(runs, async (server) => {
    const once = server.url(exec(['true']))
    assert.match(once, /^http:\/\/127\.0\.0\.1:[0-9]+\/exec\/[A-Za-z0-9_-]{32}$/)
    const { error } = await openCommand(once)
    await ended(error)
    const again = await upgrade(once, V4)
    assert.is('status' in again && again.status, 404)
  })
})

url('what is not there is 404, and a token of another kind is used up', async () => {
  await withServer(runs, async (server) => {
    const { origin } = new URL(server.url(exec(['true'])))
    for (const path of [
      '/',
      '/exec',
      '/exec/',
      '/exec/abc',
      `/exec/${'a'.repeat(32)}`,
      '/exec/../x',
      '/run/abc',
    ]) {
      const answer = await upgrade(origin + path, V4)
      assert.is('status' in answer && answer.status, 404, path)
    }
    const attach = server.url(exec(['true'])).replace('/exec/', '/attach/')
    for (const each of [attach, attach.replace('/attach/', '/exec/')]) {
      const answer = await upgrade(each, V4)
      assert.is('status' in answer && answer.status, 404)
    }
  })
})

url('a request that is no upgrade, of another method or version is refused', async () => {
  await withServer(runs, async (server) => {
    const plain = await fetch(server.url(exec(['true'])))
    assert.is(plain.status, 400)
    assert.match(await plain.text(), 'unable to upgrade')
    const nothing = await fetch(new URL('/exec/none', server.url(exec(['true']))))
    assert.is(nothing.status, 404)
    const other = await upgrade(server.url(exec(['true'])), V4, { upgrade: 'h2c' })
    assert.is('status' in other && other.status, 400)
    const put = await upgrade(server.url(exec(['true'])), V4, { method: 'PUT' })
    assert.is('status' in put && put.status, 405)
    const deleted = await fetch(server.url(exec(['true'])), { method: 'DELETE' })
    assert.is(deleted.status, 405)
    const version = await upgrade(server.url(exec(['true'])), ['v9.channel.k8s.io'])
    assert.is('status' in version && version.status, 403)
    assert.is(version.headers['x-accepted-stream-protocol-versions'], V4.join(', '))
    const forward = await upgrade(server.url(FORWARD_REQUEST), V4)
    assert.is('status' in forward && forward.status, 403)
  })
})

url('the version is of the client, and GET will do', async () => {
  await withServer(runs, async (server) => {
    const answer = await upgrade(
      server.url(exec(['true'])),
      ['v9.channel.k8s.io', 'v2.channel.k8s.io', 'v4.channel.k8s.io'],
      { method: 'GET' },
    )
    assert.is(
      'socket' in answer && answer.headers['x-stream-protocol-version'],
      'v2.channel.k8s.io',
    )
    if ('socket' in answer) answer.socket.destroy()
  })
})

url('what cannot be is refused before there is a URL', async () => {
  await withServer(runs, async (server) => {
    assert.throws(() => server.url(exec(['x'], { terminal: true })), /no stderr/)
    assert.throws(
      () => server.url(exec(['x'], { stdin: false, stdout: false, stderr: false })),
      /one of/,
    )
    assert.throws(() => server.url({ ...exec(['x']), target: '' }), /no target/)
    assert.throws(() => server.url({ ...FORWARD_REQUEST, ports: [0] }), /port 0/)
    assert.throws(() => server.url({ ...FORWARD_REQUEST, ports: Array(65).fill(80) }), /at most 64/)
  })
})

url('a closed server has ended what ran, and gives out no URL', async () => {
  const session = new HandSession()
  await withServer({ exec: async () => session }, async (server) => {
    const { client } = await openCommand(server.url(exec(['x'])))
    const unused = server.url(exec(['y']))
    await server.close()
    await closed(client)
    assert.ok(session.isClosed)
    assert.throws(() => server.url(exec(['x'])), /closed/)
    assert.is(await upgrade(unused, V4).catch((error) => error.code), 'ECONNREFUSED')
  })
})

url('a handler that never answers does not keep a server from closing', async () => {
  await withServer({ exec: () => new Promise<Session>(() => {}) }, async (server) => {
    const { client } = await openCommand(server.url(exec(['x'])))
    await server.close()
    await closed(client)
  })
})

url('an address that is taken is a failure with its name', async () => {
  await withServer(runs, async (server) => {
    const failing = StreamServer.listen({ port: server.port }, {} as Handlers)
    assert.match(await failing.catch((error) => error.message), /cannot listen on 127.0.0.1 port/)
  })
})

const tls = suite('TLS')

/** A certificate for 127.0.0.1, which its own clients trust. */
function selfSigned(): { certificate: Buffer; key: Buffer } {
  const directory = mkdtempSync(join(tmpdir(), 'berth-stream-'))
  try {
    const [key, cert] = [join(directory, 'key.pem'), join(directory, 'cert.pem')]
    const made = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2']
    const subject = ['-subj', '/CN=berth', '-addext', 'subjectAltName=IP:127.0.0.1']
    execFileSync('openssl', ['req', '-x509', ...made, '-keyout', key, '-out', cert, ...subject], {
      stdio: 'ignore',
    })
    return { certificate: readFileSync(cert), key: readFileSync(key) }
  } finally {
    rmSync(directory, { recursive: true })
  }
}

needing(tls, 'program:openssl')(
  'the same over TLS, and a new certificate without a restart',
  async () => {
    const [first, second] = [selfSigned(), selfSigned()]
    await withServer(
      runs,
      async (server) => {
        const run = async (trusted: Buffer): Promise<string> => {
          const secure = server.url(exec(['echo', 'hello']))
          assert.match(secure, /^https:/)
          const { client, stdout, error } = await openCommand(secure, V4, PIPES, { ca: trusted })
          await ended(error)
          return client.text(stdout)
        }
        const code = (failing: Promise<unknown>) =>
          failing.then(
            () => 'none',
            (error) => error.code,
          )
        assert.is(await run(first.certificate), 'hello\n')
        assert.is(await code(run(second.certificate)), 'DEPTH_ZERO_SELF_SIGNED_CERT')
        assert.throws(
          () => server.reload({ certificate: second.certificate, key: first.key }),
          /no valid pair/,
        )
        assert.is(await run(first.certificate), 'hello\n')
        server.reload(second)
        assert.is(await run(second.certificate), 'hello\n')
        const plain = server.url(exec(['true'])).replace('https:', 'http:')
        assert.is(await code(upgrade(plain, V4)), 'ECONNRESET')
        const old = { ca: second.certificate, maxVersion: 'TLSv1.1', minVersion: 'TLSv1' } as const
        assert.match(
          await code(upgrade(server.url(exec(['x'])), V4, { tls: old })),
          /SSL|TLS|EPROTO/,
        )
      },
      { tls: first },
    )
  },
)

tls('a pair that is none is refused, and a plain server has none to reload', async () => {
  const nothing = { certificate: 'none', key: 'none' }
  const failing = StreamServer.listen({ tls: nothing }, {} as Handlers)
  assert.match(await failing.catch((error) => error.message), /no valid pair/)
  await withServer(runs, async (server) => {
    assert.throws(() => server.reload(nothing), /without TLS/)
  })
})

url.run()
tls.run()
