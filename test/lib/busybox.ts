import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdirSync, readFileSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { type ImageSource, type TarEntry, writeOciArchive } from './images.ts'

/** Debian's package busybox-static: a shell and tools in one static program. */
export const BUSYBOX = '/bin/busybox'

const APPLETS =
  'sh ls cat sleep id env ps mount umount echo true false hostname seq setsid stty tty grep stat ln mkdir touch kill sysctl ulimit head wc test dd rm nice ionice date cut uname yes'

/** A root file system of Debian's static busybox. */
export function busyboxRoot(root: string): void {
  mkdirSync(join(root, 'bin'), { recursive: true })
  copyFileSync(BUSYBOX, join(root, 'bin/busybox'))
  for (const name of APPLETS.split(' ')) symlinkSync('busybox', join(root, 'bin', name))
}

/** An image with a shell, for what the probe program is too small for. */
export function busyboxImage(
  name: string,
  config: ImageSource['config'] = { Cmd: ['sh'], Env: ['PATH=/bin'] },
  ...layers: TarEntry[][]
): ImageSource {
  const directories = ['bin', 'dev', 'etc', 'proc', 'root', 'sys', 'usr', 'usr/bin', 'var']
  const tools = execFileSync(BUSYBOX, ['--list'], { encoding: 'utf8' }).trim().split('\n')
  const entries: TarEntry[] = [
    ...directories.map((path): TarEntry => ({ name: `${path}/`, type: 'directory' })),
    { name: 'tmp/', type: 'directory', mode: 0o1777 },
    { name: 'bin/busybox', mode: 0o755, content: readFileSync(BUSYBOX) },
    ...tools
      .filter((tool) => tool !== 'busybox')
      .map((tool): TarEntry => ({ name: `bin/${tool}`, type: 'symlink', to: 'busybox' })),
    { name: 'etc/passwd', content: 'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n' },
    { name: 'etc/group', content: 'root:x:0:\nuser:x:1000:\nstaff:x:50:\n' },
  ]
  return { name, config, layers: [entries, ...layers] }
}

export function writeBusybox(path: string, name: string): void {
  writeOciArchive(path, [busyboxImage(name)])
}
