/**
 * Bundles the command line: Node reads a few files in place of two hundred, which is most of what a short command costs. Each
 * command stays a chunk of its own, loaded when it is called.
 */
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

/** The repository, seen from dist/scripts/. */
const repository = fileURLToPath(new URL('../../', import.meta.url))

await build({
  absWorkingDir: repository,
  entryPoints: {
    berth: 'src/main.ts',
    // Found beside the chunk that starts it.
    'unpack-worker': 'src/layer/unpack-worker.ts',
  },
  // As deep as dist/src/FOLDER/: paths relative to a module lead to the same places.
  outdir: 'dist/src/bundle',
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node20',
  sourcemap: true,
  logLevel: 'warning',
  // Of CommonJS packages in the bundle.
  banner: {
    js: "import { createRequire as berthRequire } from 'node:module'; const require = berthRequire(import.meta.url);",
  },
})
