import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import AjvDraft04 from 'ajv-draft-04'
import formats from 'ajv-formats'
import { REPOSITORY } from './images.ts'

/** The JSON schemas of one of the OCI's specifications, which are draft 4 (test/spec/README.md). They refer to each other by file name. */
class Schemas<Kind extends string> {
  readonly names: readonly string[]
  readonly #directory: string
  readonly #ajv = new AjvDraft04.default({ strict: false, allErrors: true })

  constructor(specification: 'image' | 'runtime') {
    this.#directory = join(REPOSITORY, 'test/spec', specification)
    this.names = readdirSync(this.#directory)
      .filter((name) => name.endsWith('.json'))
      .sort()
    // The CommonJS types of these two say what NodeNext reads as a module with a default inside.
    ;(formats as unknown as typeof formats.default)(this.#ajv as never)
    for (const name of this.names) {
      this.#ajv.addSchema(withoutIds(this.#read(name)) as object, name)
    }
  }

  #read(name: string): unknown {
    return JSON.parse(readFileSync(join(this.#directory, name), 'utf8'))
  }

  /** Whether the schema is one itself. */
  isSchema(name: string): boolean {
    return this.#ajv.validateSchema(this.#read(name) as object) === true
  }

  /** What the schema says against the document: `/layers/0/size must be integer`; nothing where it is valid. */
  violations(kind: Kind, document: unknown): string[] {
    const validate = this.#ajv.getSchema(`${kind}.json`)
    if (validate === undefined) throw new Error(`no schema ${kind}`)
    if (validate(document) === true) return []
    return (validate.errors ?? []).map(({ instancePath, message }) => `${instancePath} ${message}`)
  }
}

/** The ids that schemas and their parts bear are of other places and would lead nowhere. */
function withoutIds(value: unknown, isProperties = false): unknown {
  if (Array.isArray(value)) return value.map((entry) => withoutIds(entry))
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key, entry]) => isProperties || key !== 'id' || typeof entry !== 'string')
      .map(([key, entry]) => [key, withoutIds(entry, key === 'properties')]),
  )
}

export const imageSchemas = new Schemas<
  | 'config-schema'
  | 'content-descriptor'
  | 'image-index-schema'
  | 'image-layout-schema'
  | 'image-manifest-schema'
>('image')

export const runtimeSchemas = new Schemas<'config-schema' | 'features-schema' | 'state-schema'>(
  'runtime',
)
