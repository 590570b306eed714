import http from 'node:http'
import https from 'node:https'
import { BlockList, isIP } from 'node:net'
import type { Duplex } from 'node:stream'
import tls from 'node:tls'
import { Fault } from '../base/fault.ts'

/** Until the proxy has answered CONNECT. */
const CONNECT_MS = 30_000

type Environment = Readonly<Record<string, string | undefined>>

/** Whether the host of a URL or reference is this machine itself. */
export function isLoopback(hostname: string): boolean {
  const host = plainHost(hostname)
  return host === 'localhost' || host === '::1' || /^127(?:\.[0-9]{1,3}){3}$/.test(host)
}

function plainHost(hostname: string): string {
  return hostname.replace(/^\[|\]$/g, '').toLowerCase()
}

/**
 * The proxy for an address, undefined for none: HTTPS_PROXY or HTTP_PROXY, in upper case or else lower, with the exceptions of NO_PROXY, as
 * Go's programs read them (docker, podman, containerd). This machine itself is never behind a proxy.
 */
export function proxyFor(url: URL, environment: Environment = process.env): URL | undefined {
  const name = url.protocol === 'https:' ? 'HTTPS_PROXY' : 'HTTP_PROXY'
  const text = variable(environment, name)
  if (text === '' || isLoopback(url.hostname)) return undefined
  if (isExcepted(url, variable(environment, 'NO_PROXY'))) return undefined
  const full = /^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? text : `http://${text}`
  // The text may hold a password: it is not repeated.
  if (!URL.canParse(full)) throw new Fault('INVALID_ARGUMENT', `${name} holds no valid address`)
  const proxy = new URL(full)
  if (proxy.protocol === 'http:' || proxy.protocol === 'https:') return proxy
  throw new Fault(
    'UNIMPLEMENTED',
    `${name} names a proxy of the kind ${proxy.protocol}//; berth uses http:// and https:// proxies`,
  )
}

function variable(environment: Environment, name: string): string {
  return environment[name] || environment[name.toLowerCase()] || ''
}

function isExcepted(url: URL, list: string): boolean {
  const host = plainHost(url.hostname).replace(/\.$/, '')
  const port = url.port || (url.protocol === 'https:' ? '443' : '80')
  return list
    .split(',')
    .map((entry) => entry.trim().toLowerCase())
    .some((entry) => entry !== '' && matches(entry, host, port))
}

/** `*`, `10.0.0.0/8`, `10.1.2.3`, `[::1]:5000`, `example.com` (with all below it), `.example.com` or `*.example.com` (only what is below). */
function matches(entry: string, host: string, port: string): boolean {
  if (entry === '*') return true
  if (entry.includes('/')) return isInSubnet(entry, host)
  const [, name = '', ofPort] = /^(\[[^\]]*\]|[^:]*|.*:.*:.*?)(?::([0-9]+))?$/.exec(entry) ?? []
  if (ofPort !== undefined && ofPort !== port) return false
  const bare = plainHost(name)
  if (isIP(bare) !== 0) return isSameAddress(bare, host)
  const suffix = bare.replace(/^\*(?=\.)/, '')
  if (suffix.startsWith('.')) return host.endsWith(suffix)
  return suffix !== '' && (host === suffix || host.endsWith(`.${suffix}`))
}

function isInSubnet(entry: string, host: string): boolean {
  const [network = '', bits = ''] = entry.split('/')
  const family = isIP(network)
  if (family === 0 || isIP(host) !== family || !/^[0-9]{1,3}$/.test(bits)) return false
  if (Number(bits) > (family === 4 ? 32 : 128)) return false
  const subnet = new BlockList()
  const type = family === 4 ? 'ipv4' : 'ipv6'
  subnet.addSubnet(network, Number(bits), type)
  return subnet.check(host, type)
}

function isSameAddress(a: string, b: string): boolean {
  if (isIP(a) !== isIP(b)) return false
  return isInSubnet(`${a}/${isIP(a) === 4 ? 32 : 128}`, b)
}

/** For a proxy that wants a login, as its address holds it. */
export function proxyHeaders(proxy: URL): Record<string, string> {
  if (proxy.username === '' && proxy.password === '') return {}
  const login = `${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`
  return { 'proxy-authorization': `Basic ${Buffer.from(login).toString('base64')}` }
}

type Done = (error: Error | null, socket?: Duplex) => void

/**
 * Connections by TLS through a proxy's CONNECT. A proxy that refuses is told of as that: its answer never counts as the registry's, or
 * whoever stands on the way to the proxy could ask for the registry's login.
 */
export function tunnelAgent(proxy: URL, options: https.AgentOptions): https.Agent {
  TunnelAgent ??= tunnelAgentClass()
  return new TunnelAgent(proxy, options)
}

let TunnelAgent: ReturnType<typeof tunnelAgentClass> | undefined

/** A function, not a class of the module: all that TLS needs would be loaded with it, also for those who use none. */
function tunnelAgentClass() {
  return class TunnelAgent extends https.Agent {
    readonly #proxy: URL
    readonly #pending = new Set<http.ClientRequest>()

    constructor(proxy: URL, options: https.AgentOptions) {
      super(options)
      this.#proxy = proxy
    }

    override destroy(): void {
      for (const request of this.#pending) request.destroy()
      super.destroy()
    }

    /** Node's agent calls it for each new connection; `options` are those of the request with the agent's own. */
    override createConnection(options: tls.ConnectionOptions, done: Done): undefined {
      const proxy = this.#proxy
      const { host = '', port = 443 } = options
      const target = `${isIP(host) === 6 ? `[${host}]` : host}:${port}`
      const request = (proxy.protocol === 'https:' ? https : http).request({
        host: plainHost(proxy.hostname),
        port: proxy.port || (proxy.protocol === 'https:' ? 443 : 80),
        method: 'CONNECT',
        path: target,
        headers: { host: target, ...proxyHeaders(proxy) },
        agent: false,
        timeout: CONNECT_MS,
      })
      this.#pending.add(request)
      request.once('close', () => this.#pending.delete(request))
      const fail = (why: string, cause?: unknown): void => {
        const text = `the proxy ${proxy.host} gives no connection to ${target}: ${why}`
        done(new Fault('UNAVAILABLE', text, { cause }))
      }
      request.once('timeout', () => request.destroy(new Error('it does not answer')))
      request.once('error', (error) => fail(error.message, error))
      request.once('connect', (answer, socket, head) => {
        if (answer.statusCode !== 200 || head.length > 0) {
          socket.destroy()
          fail(answer.statusCode === 200 ? 'it speaks first' : `status ${answer.statusCode}`)
          return
        }
        socket.setTimeout(0)
        done(null, tls.connect({ ...options, socket }))
      })
      request.end()
      return undefined
    }
  }
}
