/**
 * Writes src/spec/cri.ts, the TypeScript face of src/spec/cri.proto, as @grpc/proto-loader gives messages with the options of src/cri/wire.ts:
 *
 *   node dist/scripts/cri-types.js
 *
 * A tidy test says when the file is behind.
 */
import { writeFileSync } from 'node:fs'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { loadSync } from '@grpc/proto-loader'

const repository = fileURLToPath(new URL('../../', import.meta.url))
const PACKAGE = 'runtime.v1'
/** As the formatter has it, with the end of the line. */
const LINE_MAX = 101

/** The parts of a FieldDescriptorProto that proto-loader gives. */
interface Field {
  readonly name: string
  readonly label: string
  readonly type: string
  readonly typeName: string
}

interface Message {
  readonly name: string
  readonly field: readonly Field[]
  readonly nestedType: readonly Message[]
  readonly enumType: readonly Enum[]
  readonly options?: { readonly mapEntry?: boolean } | null
}

interface Enum {
  readonly name: string
  readonly value: readonly { readonly name: string }[]
}

const SCALARS: Readonly<Record<string, string>> = {
  TYPE_STRING: 'string',
  TYPE_BOOL: 'boolean',
  TYPE_BYTES: 'Buffer',
  TYPE_DOUBLE: 'number',
  TYPE_INT32: 'number',
  TYPE_UINT32: 'number',
  // As text: nanoseconds since the epoch are more than a double holds.
  TYPE_INT64: 'string',
  TYPE_UINT64: 'string',
}

/** The content of src/spec/cri.ts. */
export function criTypes(): string {
  const parts: string[] = []
  for (const [name, entry] of Object.entries(loadSync(`${repository}src/spec/cri.proto`))) {
    if (!name.startsWith(`${PACKAGE}.`) || !('type' in entry)) continue
    if (String(entry.format).endsWith('EnumDescriptorProto'))
      parts.push(enumType(entry.type as Enum))
    else {
      const message = entry.type as unknown as Message
      parts.push(interfaceOf(message), ...message.enumType.map(enumType))
    }
  }
  return `// Made by scripts/cri-types.ts from cri.proto. Do not edit.

${[...new Set(parts)].sort().join('\n')}`
}

function enumType({ name, value }: Enum): string {
  const names = value.map((v) => `'${v.name}'`)
  const line = `export type ${name} = ${names.join(' | ')}\n`
  return line.length <= LINE_MAX
    ? line
    : `export type ${name} =\n${names.map((v) => `  | ${v}\n`).join('')}`
}

function interfaceOf({ name, field, nestedType }: Message): string {
  if (field.length === 0) return `export type ${name} = Record<string, never>\n`
  const maps = new Set(nestedType.filter((t) => t.options?.mapEntry).map((t) => t.name))
  const lines = field.map((f) => {
    const type = typeOf(f)
    if (maps.has(type)) return `  ${f.name}: Record<string, string>`
    if (f.label === 'LABEL_REPEATED') return `  ${f.name}: ${type}[]`
    return `  ${f.name}: ${type}${f.type === 'TYPE_MESSAGE' ? ' | null' : ''}`
  })
  return `export interface ${name} {\n${lines.join('\n')}\n}\n`
}

function typeOf({ type, typeName }: Field): string {
  const scalar = SCALARS[type]
  if (scalar !== undefined) return scalar
  if (type !== 'TYPE_MESSAGE' && type !== 'TYPE_ENUM')
    throw new Error(`no TypeScript type for ${type}`)
  return typeName.slice(typeName.lastIndexOf('.') + 1)
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href)
  writeFileSync(`${repository}src/spec/cri.ts`, criTypes())
