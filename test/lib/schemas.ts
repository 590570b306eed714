import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import AjvDraft04 from 'ajv-draft-04'
import formats from 'ajv-formats'
import { REPOSITORY } from './images.ts'

/** The JSON schemas of the image-spec, which are draft 4 (test/spec/README.md). */
const DIRECTORY = join(REPOSITORY, 'test/spec/image')

export const SCHEMAS = readdirSync(DIRECTORY)
  .filter((name) => name.endsWith('.json'))
  .sort()

export function readSchema(name: string): unknown {
  return JSON.parse(readFileSync(join(DIRECTORY, name), 'utf8'))
}

export type DocumentKind =
  | 'config-schema'
  | 'content-descriptor'
  | 'image-index-schema'
  | 'image-layout-schema'
  | 'image-manifest-schema'

/** Schemas refer to each other by file name; the ids that they and their parts bear are of other places and would lead nowhere. */
function withoutIds(value: unknown, isProperties = false): unknown {
  if (Array.isArray(value)) return value.map((entry) => withoutIds(entry))
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key, entry]) => isProperties || key !== 'id' || typeof entry !== 'string')
      .map(([key, entry]) => [key, withoutIds(entry, key === 'properties')]),
  )
}

const ajv = new AjvDraft04.default({ strict: false, allErrors: true })
// The CommonJS types of these two say what NodeNext reads as a module with a default inside.
;(formats as unknown as typeof formats.default)(ajv as never)
for (const name of SCHEMAS) ajv.addSchema(withoutIds(readSchema(name)) as object, name)

/** Whether the schema is one itself. */
export function isSchema(name: string): boolean {
  return ajv.validateSchema(readSchema(name) as object) === true
}

/** What the schema says against the document: `/layers/0/size must be integer`; nothing where it is valid. */
export function violations(kind: DocumentKind, document: unknown): string[] {
  const validate = ajv.getSchema(`${kind}.json`)
  if (validate === undefined) throw new Error(`no schema ${kind}`)
  if (validate(document) === true) return []
  return (validate.errors ?? []).map(({ instancePath, message }) => `${instancePath} ${message}`)
}
