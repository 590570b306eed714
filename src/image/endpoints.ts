import { join } from 'node:path'
import { readFileIfAny } from '../base/file.ts'
import { certificatesOf } from './certificates.ts'
import { defaultEndpoint, type Endpoint } from './endpoint.ts'
import { parseHosts } from './hosts.ts'
import type { Reference } from './reference.ts'
import {
  type RegistriesConf,
  readRegistries,
  registriesPaths,
  registryEndpoints,
} from './registries-conf.ts'

/** hosts.toml is searched in this order; the first that has something for the host decides. */
export const CERTS_DIRECTORIES: readonly string[] = [
  '/etc/berth/certs.d',
  '/etc/containerd/certs.d',
]
/** Of podman and docker, with certificates alone. */
const CERTIFICATES_DIRECTORIES: readonly string[] = [
  '/etc/containers/certs.d',
  '/etc/docker/certs.d',
]

/** How registries are reached, as this machine is configured. All files are read anew each time, so a change needs no restart. */
export interface RegistrySettings {
  /** Where certs.d folders are; those of the system without. */
  readonly certsDirectories?: readonly string[] | undefined
  /** Files and folders of registries.conf; podman's own without. */
  readonly registriesPaths?: readonly string[] | undefined
  /** Hosts with port that are spoken to without TLS. */
  readonly insecureRegistries?: readonly string[] | undefined
}

/**
 * Where to ask for an image, in order: mirrors, then the registry itself. The more precise word wins: what registries.conf blocks is blocked
 * whatever else is said; else hosts.toml of the host; else its entry in registries.conf; else `_default/hosts.toml`; else the host itself by TLS
 * (loopback: by plain HTTP), with the certificates that certs.d has for it.
 */
export function endpointsOf(
  reference: Reference,
  settings: RegistrySettings,
  warn: (message: string) => void,
  conf: RegistriesConf = registriesConf(settings, warn),
): Endpoint[] {
  const directories = settings.certsDirectories ?? CERTS_DIRECTORIES
  const certificates = settings.certsDirectories ?? [
    ...CERTS_DIRECTORIES,
    ...CERTIFICATES_DIRECTORIES,
  ]
  const insecure = settings.insecureRegistries ?? []
  const fromConf = registryEndpoints(conf, reference, insecure)
  const { domain, path } = reference
  const fromFile = (name: string): Endpoint[] | undefined => {
    for (const folder of directories.map((directory) => join(directory, name))) {
      const file = join(folder, 'hosts.toml')
      const text = readFileIfAny(file)
      if (text === undefined) continue
      return parseHosts(text, { repository: { domain, path }, file, folder, insecure, warn })
    }
    return undefined
  }
  const withFiles = (endpoint: Endpoint): Endpoint => withCertificates(endpoint, certificates)
  const own = [defaultEndpoint(reference, insecure)]
  return (
    fromFile(domain) ??
    fromConf?.map(withFiles) ??
    (certificatesOf(domain, certificates) === undefined ? fromFile('_default') : undefined) ??
    own.map(withFiles)
  )
}

/** registries.conf as it is now. */
export function registriesConf(
  settings: RegistrySettings,
  warn: (message: string) => void,
): RegistriesConf {
  return readRegistries(settings.registriesPaths ?? registriesPaths(), warn)
}

/** Who has certificates for a host means TLS. */
function withCertificates(endpoint: Endpoint, directories: readonly string[]): Endpoint {
  const found = certificatesOf(endpoint.repository.domain, directories)
  if (found === undefined) return endpoint
  return {
    ...endpoint,
    url: new URL(endpoint.url.href.replace(/^http:/, 'https:')),
    tls: { ...found, skipVerify: endpoint.tls.skipVerify },
  }
}
