import { execFileSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'

/** PEM files of a certificate and its key. */
export interface Pair {
  readonly certificate: string
  readonly key: string
}

/** A CA of a test's own (openssl). */
export class Authority {
  readonly #directory: string
  readonly own: Pair

  constructor(directory: string) {
    mkdirSync(directory, { recursive: true })
    this.#directory = directory
    this.own = this.#files('ca')
    this.#openssl(
      'req',
      '-x509',
      ...NEW_KEY,
      '-subj',
      '/CN=berth test CA',
      ...this.#output(this.own),
    )
  }

  /** A certificate signed by the CA: for a host, by its `subjectAltName` (`DNS:q.io`, `IP:127.0.0.1`), or for a client. */
  issue(name: string, subjectAltName?: string): Pair {
    const pair = this.#files(name)
    const request = join(this.#directory, `${name}.csr`)
    const extension =
      subjectAltName === undefined ? [] : ['-addext', `subjectAltName=${subjectAltName}`]
    this.#openssl(
      'req',
      ...NEW_KEY,
      '-subj',
      `/CN=${name}`,
      ...extension,
      '-keyout',
      pair.key,
      '-out',
      request,
    )
    const { certificate, key } = this.own
    const signer = ['-CA', certificate, '-CAkey', key, '-CAcreateserial', '-days', '2']
    const out = ['-copy_extensions', 'copy', '-out', pair.certificate]
    this.#openssl('x509', '-req', '-in', request, ...signer, ...out)
    return pair
  }

  #files(name: string): Pair {
    return {
      certificate: join(this.#directory, `${name}.crt`),
      key: join(this.#directory, `${name}.pem`),
    }
  }

  #output({ certificate, key }: Pair): string[] {
    return ['-days', '2', '-keyout', key, '-out', certificate]
  }

  #openssl(...args: string[]): void {
    execFileSync('openssl', args, { stdio: 'ignore' })
  }
}

const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
