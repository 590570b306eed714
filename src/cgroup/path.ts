import { Fault } from '../base/fault.ts'

/** Bytes of a path within the hierarchy; with a file's name and the root it stays below PATH_MAX. */
const PATH_BYTES_MAX = 3000

/** A path within the hierarchy in its plain form. INVALID_ARGUMENT where it is not absolute or leads elsewhere. */
export function checkPath(path: string): string {
  if (!path.startsWith('/') || Buffer.byteLength(path) > PATH_BYTES_MAX) {
    throw new Fault('INVALID_ARGUMENT', `cgroup path "${path}" must be absolute and not too long`)
  }
  return `/${path
    .split('/')
    .filter((part) => part !== '' && part !== '.')
    .map(checkName)
    .join('/')}`
}

/** A name of one group. INVALID_ARGUMENT where the kernel could take it for something else. */
export function checkName(name: string): string {
  // A newline would forge a line of /proc/PID/cgroup; `cgroup.` and a controller's name and dot are the kernel's own files.
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused.
  if (name === '' || name === '.' || name === '..' || /[/\x00-\x1f\x7f]/.test(name)) {
    throw new Fault('INVALID_ARGUMENT', `"${name}" is no name of a cgroup`)
  }
  if (name.startsWith('cgroup.') || Buffer.byteLength(name) > 255) {
    throw new Fault('INVALID_ARGUMENT', `"${name}" cannot be the name of a cgroup`)
  }
  return name
}
