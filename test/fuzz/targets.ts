import type { Target } from './target.ts'

/** Loaded when it is run: what is loaded before the coverage is watched is not seen by it. */
export const TARGETS: Readonly<Record<string, () => Promise<Target>>> = {
  tar: async () => (await import('./targets/tar.ts')).tar,
  archive: async () => (await import('./targets/archive.ts')).archive,
  'zstd-frames': async () => (await import('./targets/compression.ts')).zstdFrames,
  compression: async () => (await import('./targets/compression.ts')).compression,
  documents: async () => (await import('./targets/documents.ts')).documents,
  configurations: async () => (await import('./targets/documents.ts')).configurations,
  references: async () => (await import('./targets/names.ts')).references,
  platforms: async () => (await import('./targets/names.ts')).platforms,
  challenges: async () => (await import('./targets/names.ts')).challenges,
  hosts: async () => (await import('./targets/settings.ts')).hosts,
  registries: async () => (await import('./targets/settings.ts')).registries,
  policies: async () => (await import('./targets/settings.ts')).policies,
  bundles: async () => (await import('./targets/bundles.ts')).bundles,
  payloads: async () => (await import('./targets/settings.ts')).payloads,
}

/** These make containers: they need root and cgroup v2, and a host that they cannot write to. */
export const KERNEL_TARGETS: ReadonlySet<string> = new Set(['bundles'])
