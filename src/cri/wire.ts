import { fileURLToPath } from 'node:url'
import { loadPackageDefinition, type ServiceDefinition } from '@grpc/grpc-js'
import { loadSync } from '@grpc/proto-loader'

/** From dist/src/FOLDER/. */
const PROTO = fileURLToPath(new URL('../../../src/spec/cri.proto', import.meta.url))

export type ServiceName = 'RuntimeService' | 'ImageService'

interface Service {
  readonly service: ServiceDefinition
}

/**
 * The services of runtime.v1. Messages are as src/spec/cri.ts has them: every field is there, 64-bit numbers are text, enums are names; of what is sent,
 * fields may be missing.
 */
let services: Readonly<Record<ServiceName, ServiceDefinition>> | undefined

export function criServices(): Readonly<Record<ServiceName, ServiceDefinition>> {
  if (services) return services
  const definition = loadSync(PROTO, {
    longs: String,
    enums: String,
    defaults: true,
    arrays: true,
    objects: true,
  })
  const root = loadPackageDefinition(definition) as unknown as {
    runtime: { v1: Record<ServiceName, Service> }
  }
  const { RuntimeService, ImageService } = root.runtime.v1
  services = { RuntimeService: RuntimeService.service, ImageService: ImageService.service }
  return services
}

/** A message to be sent: what is missing is empty on the wire. */
export type Reply<T> = T extends (infer Item)[]
  ? Reply<Item>[]
  : T extends Buffer | string | number | boolean | null
    ? T
    : { [Key in keyof T]?: Reply<T[Key]> | undefined }
