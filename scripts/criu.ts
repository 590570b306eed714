/**
 * A CRIU that knows the kernels of today: 3.17 of Debian 12 fails on those whose vDSO has grown (seen with 6.18).
 *
 *   node dist/scripts/criu.js fetch       gets a newer one than the system's package has, for its user only, and says its version
 */
import { mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { debs, multiarch, PrivateApt, patchelf, run } from './apt.ts'

/** With all libraries that it loads. */
const PACKAGES = `criu libbsd0 libc6 libffi8 libgmp10 libgnutls30t64 libhogweed6t64 libidn2-0 libjansson4 libmd0 libmnl0 libnet9 libnettle8t64 libnftables1
  libnftnl11 libnl-3-200 libp11-kit0 libprotobuf-c1 libtasn1-6 libunistring5 libuuid1 libxtables12`

/** Where the program is once it is fetched. */
export function fetchedCriu(): string {
  return join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'berth/criu/bin')
}

function fetchCriu(release = 'forky'): void {
  const directory = dirname(fetchedCriu())
  const work = `${directory}.new`
  rmSync(work, { recursive: true, force: true })
  for (const name of ['root', 'old', 'bin']) mkdirSync(join(work, name), { recursive: true })
  new PrivateApt(work, 'deb', release).get('download', ...PACKAGES.split(/\s+/))
  for (const file of debs(work)) run(work, 'dpkg-deb', '-x', file, 'root')
  renameSync(join(work, 'root/usr/sbin/criu'), join(work, 'bin/criu'))

  const folder = join('root/usr/lib', multiarch(join(work, 'root/usr/lib')))
  const loader = readdirSync(join(work, folder)).find((name) => name.startsWith('ld-linux')) ?? ''
  const libraries = join(directory, folder)
  // In the program for its libraries, too: their own paths are those of another system.
  const change = ['--set-interpreter', join(libraries, loader), '--force-rpath']
  run(work, patchelf(work), ...change, '--set-rpath', libraries, 'bin/criu')
  for (const name of ['apt', 'old']) rmSync(join(work, name), { recursive: true })
  for (const file of debs(work)) rmSync(join(work, file))
  rmSync(directory, { recursive: true, force: true })
  renameSync(work, directory)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  if (process.argv[2] !== 'fetch') throw new Error('usage: criu.js fetch')
  mkdirSync(dirname(dirname(fetchedCriu())), { recursive: true })
  fetchCriu()
  process.stdout.write(run('/', join(fetchedCriu(), 'criu'), '--version'))
}
