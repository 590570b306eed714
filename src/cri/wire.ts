import { fileURLToPath } from 'node:url'
import { loadPackageDefinition, type MethodDefinition, type ServiceDefinition } from '@grpc/grpc-js'
import { loadSync } from '@grpc/proto-loader'
import { Encoded } from './encoded.ts'

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
  services = {
    RuntimeService: withEncoded(withKeptItems(RuntimeService.service)),
    ImageService: ImageService.service,
  }
  return services
}

/** Lists that the kubelet asks for all the time, and their one field: what is in them rarely changes. */
const LISTS = { ListContainers: 'containers', ListPodSandbox: 'items' } as const

/** Keeps the bytes of a list's items by the objects that they were made of: convert.ts gives the same one as long as it says the same. */
function withKeptItems(service: ServiceDefinition): ServiceDefinition {
  const kept: Record<string, MethodDefinition<unknown, unknown>> = { ...service }
  for (const [method, field] of Object.entries(LISTS)) {
    const definition = kept[method]
    if (definition) kept[method] = { ...definition, responseSerialize: ofItems(definition, field) }
  }
  return kept
}

/** An answer that is encoded already goes out as it is. */
function withEncoded(service: ServiceDefinition): ServiceDefinition {
  return Object.fromEntries(
    Object.entries(service).map(([method, definition]) => {
      const { responseSerialize } = definition as MethodDefinition<unknown, unknown>
      const serialize = (reply: unknown): Buffer =>
        reply instanceof Encoded ? reply.bytes : responseSerialize(reply)
      return [method, { ...definition, responseSerialize: serialize }]
    }),
  )
}

/** Messages with one item each, one after the other, are the message with all of them (protobuf's encoding of a repeated field). */
function ofItems(
  { responseSerialize }: MethodDefinition<unknown, unknown>,
  field: string,
): (reply: unknown) => Buffer {
  const known = new WeakMap<object, Buffer>()
  let last: readonly object[] = []
  let lastBytes = Buffer.alloc(0)
  return (reply) => {
    const items = (reply as Record<string, readonly object[] | undefined>)[field] ?? []
    if (items.length === last.length && items.every((item, i) => item === last[i])) return lastBytes
    last = items
    lastBytes = Buffer.concat(
      items.map((item) => {
        const bytes = known.get(item) ?? copyOf(responseSerialize({ [field]: [item] }))
        known.set(item, bytes)
        return bytes
      }),
    )
    return lastBytes
  }
}

/** Not part of one of Node's larger buffers, all of which it would keep. */
function copyOf(bytes: Buffer): Buffer {
  const copy = Buffer.allocUnsafeSlow(bytes.length)
  bytes.copy(copy)
  return copy
}

/** A message to be sent: what is missing is empty on the wire. */
export type Reply<T> = T extends (infer Item)[]
  ? Reply<Item>[]
  : T extends Buffer | string | number | boolean | null
    ? T
    : { [Key in keyof T]?: Reply<T[Key]> | undefined }
