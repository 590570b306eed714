/** OCI image-spec 1.1 documents and their Docker schema 2 twins. Field names are the specification's. */

export interface Descriptor {
  mediaType: string
  digest: string
  size: number
  urls?: string[]
  annotations?: Record<string, string>
  data?: string
  artifactType?: string
  platform?: Platform
}

export interface Platform {
  architecture: string
  os: string
  'os.version'?: string
  'os.features'?: string[]
  variant?: string
}

export interface Index {
  schemaVersion: number
  mediaType?: string
  artifactType?: string
  manifests: Descriptor[]
  subject?: Descriptor
  annotations?: Record<string, string>
}

export interface Manifest {
  schemaVersion: number
  mediaType?: string
  artifactType?: string
  config: Descriptor
  layers: Descriptor[]
  subject?: Descriptor
  annotations?: Record<string, string>
}

export interface ImageConfig {
  created?: string
  author?: string
  architecture: string
  os: string
  'os.version'?: string
  variant?: string
  config?: {
    User?: string
    ExposedPorts?: Record<string, unknown>
    Env?: string[]
    Entrypoint?: string[]
    Cmd?: string[]
    Volumes?: Record<string, unknown>
    WorkingDir?: string
    Labels?: Record<string, string>
    StopSignal?: string
    ArgsEscaped?: boolean
    Shell?: string[]
    Healthcheck?: Record<string, unknown>
  }
  rootfs: { type: string; diff_ids: string[] }
  history?: {
    created?: string
    author?: string
    created_by?: string
    comment?: string
    empty_layer?: boolean
  }[]
}
