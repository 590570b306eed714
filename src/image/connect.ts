import type { Credentials } from './auth.ts'
import { findCredentials } from './credentials.ts'
import { endpointsOf, type RegistrySettings, registriesConf } from './endpoints.ts'
import { Http, type Timeouts } from './http.ts'
import type { Reference } from './reference.ts'
import { Repository } from './registry.ts'

/** How one operation reaches registries. */
export interface RegistryOptions extends RegistrySettings {
  /** Used for the registry of the name in place of what docker or podman keep on the disk. */
  readonly credentials?: Credentials | undefined
  readonly timeouts?: Partial<Timeouts> | undefined
}

/** The repository of a name, at all addresses that this machine's files have for it. Dispose of it to close its connections. */
export function openRepository(
  reference: Reference,
  options: RegistryOptions,
  warn: (message: string) => void,
): Repository {
  const conf = registriesConf(options, warn)
  const endpoints = endpointsOf(reference, options, warn, conf)
  return new Repository({
    http: new Http(options.timeouts),
    reference,
    endpoints,
    credentials: async ({ domain, path }) =>
      domain === reference.domain && options.credentials !== undefined
        ? options.credentials
        : findCredentials(domain, path, { helpers: conf.helpers }),
  })
}
