/** What the built-in image holds: one static program of ours and the few files that a root file system needs. */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { ImageConfig } from './layout.ts'
import type { TarEntry } from './tar.ts'

/** Seen from dist/rootfs/. */
export const PROBE = fileURLToPath(new URL('../../build/Release/probe', import.meta.url))

const DIRECTORIES = ['bin', 'dev', 'etc', 'home', 'home/user', 'proc', 'root', 'run', 'sys', 'var']
/** Verbs that are programs of their own, by a link in /bin; all others are `probe VERB`. */
const LINKS = [
  'hello',
  'cat',
  'echo',
  'env',
  'false',
  'id',
  'ls',
  'ps',
  'pwd',
  'sleep',
  'stat',
  'true',
]

export const HELLO_CONFIG: ImageConfig = {
  Cmd: ['/bin/hello'],
  Env: ['PATH=/bin'],
  WorkingDir: '/',
}

export function helloEntries(): TarEntry[] {
  return [
    ...DIRECTORIES.map(
      (name): TarEntry => ({
        name: `${name}/`,
        type: 'directory',
        ...(name === 'home/user' ? { uid: 1000, gid: 1000 } : {}),
        ...(name === 'root' ? { mode: 0o700 } : {}),
      }),
    ),
    { name: 'tmp/', type: 'directory', mode: 0o1777 },
    { name: 'bin/probe', mode: 0o755, content: probe() },
    ...LINKS.map(
      (name): TarEntry => ({ name: `bin/${name}`, type: 'symlink', to: 'probe', mode: 0o777 }),
    ),
    {
      name: 'etc/passwd',
      content:
        'root:x:0:0:root:/root:/bin/probe\n' +
        'user:x:1000:1000:user:/home/user:/bin/probe\n' +
        'nobody:x:65534:65534:nobody:/:/bin/false\n',
    },
    {
      name: 'etc/group',
      content: 'root:x:0:\naudio:x:29:user\nuser:x:1000:\nnogroup:x:65534:\n',
    },
  ]
}

function probe(): Buffer {
  try {
    return readFileSync(PROBE)
  } catch (cause) {
    throw new Error(
      `cannot read ${PROBE}: build the native programs first (npx node-gyp rebuild)`,
      {
        cause,
      },
    )
  }
}
