import { isAbsolute, normalize, resolve } from 'node:path'
import { Fault } from '../../base/fault.ts'
import type { MountOption } from '../../engine/options.ts'
import { parseOctal, parseSize } from './size.ts'

const PROPAGATIONS = ['private', 'rprivate', 'slave', 'rslave', 'shared', 'rshared']
/** Passed on as they are; judged by the plan. */
const FLAGS = ['nosuid', 'suid', 'nodev', 'dev', 'noexec', 'exec', 'noatime', 'relatime']
const VOLUME_NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}$/

const DEFAULTS = {
  source: '',
  readOnly: false,
  recursiveReadOnly: false,
  propagation: '',
  createSource: false,
  nonRecursive: false,
  idmap: false,
  noCopy: false,
} as const

/**
 * `-v SOURCE:TARGET[:OPTIONS]`, `-v NAME:TARGET[:OPTIONS]` or `-v TARGET` (an anonymous volume). `ro` holds for mounts below the source
 * too, as in docker 25 and later.
 */
export function parseVolume(text: string, cwd: string): MountOption {
  const bad = (reason: string): Fault => invalid(`"${text}"`, reason)
  const parts = text.split(':')
  if (parts.length > 3) throw bad('more than SOURCE:TARGET:OPTIONS')
  const [source, target, options] = parts.length === 1 ? ['', text, ''] : parts
  const mount: MountOption = {
    ...DEFAULTS,
    kind: 'volume',
    target: targetPath(target, bad),
    options: [],
  }
  if (parts.length > 1 && source === '') throw bad('the source is empty')
  if (source !== undefined && source !== '') {
    if (isAbsolute(source) || /^\.{1,2}(\/|$)/.test(source)) {
      mount.kind = 'bind'
      mount.source = resolve(cwd, source)
      mount.createSource = true
    } else {
      mount.source = volumeName(source, bad)
    }
  }
  for (const option of (options ?? '').split(',').filter((o) => o !== '')) {
    volumeOption(mount, option, bad)
  }
  return mount
}

function volumeOption(mount: MountOption, option: string, bad: (reason: string) => Fault): void {
  if (option === 'ro' || option === 'readonly') readOnly(mount)
  else if (option === 'rro') readOnly(mount)
  else if (option === 'rw') mount.readOnly = mount.recursiveReadOnly = false
  else if (option === 'idmap') mount.idmap = true
  else if (PROPAGATIONS.includes(option)) propagation(mount, option, bad)
  else if (option === 'nocopy') {
    if (mount.kind !== 'volume') throw bad('nocopy is for volumes')
    mount.noCopy = true
  } else if (option === 'bind') mount.nonRecursive = true
  else if (option === 'rbind') mount.nonRecursive = false
  else if (FLAGS.includes(option)) mount.options.push(option)
  else if (option === 'z' || option === 'Z') {
    throw bad(`option ${option} relabels for SELinux, which berth does not do: leave it out`)
  } else if (option === 'U' || option === 'O') {
    throw bad(`option ${option} (podman's) is not supported`)
  } else if (['consistent', 'cached', 'delegated'].includes(option)) {
    // Hints for docker's virtual machine on macOS; on Linux all three are what a mount is anyway.
  } else throw bad(`unknown option "${option}"`)
}

/** `--mount type=bind,src=/a,dst=/b,ro`. Values with a comma stand in double quotes, as in a CSV line. */
export function parseMount(text: string, cwd: string): MountOption {
  const bad = (reason: string): Fault => invalid(`"${text}"`, reason)
  const fields = csvFields(text, bad).map((field) => {
    const at = field.indexOf('=')
    return at < 0 ? [field, undefined] : [field.slice(0, at), field.slice(at + 1)]
  }) as [key: string, value: string | undefined][]
  const type = fields.find(([key]) => key === 'type')?.[1] ?? 'volume'
  if (type !== 'bind' && type !== 'volume' && type !== 'tmpfs') {
    throw bad(`type ${type} is not supported (bind, volume, tmpfs are)`)
  }
  const mount: MountOption = { ...DEFAULTS, kind: type, target: '', options: [] }
  for (const [key, value] of fields) mountKey(mount, key, value, cwd, bad)
  if (mount.target === '') throw bad('the target (dst=/PATH) is missing')
  if (mount.kind === 'bind' && mount.source === '') throw bad('the source (src=/PATH) is missing')
  return mount
}

function mountKey(
  mount: MountOption,
  key: string,
  value: string | undefined,
  cwd: string,
  bad: (reason: string) => Fault,
): void {
  const text = (): string => {
    if (value === undefined || value === '') throw bad(`${key} needs a value`)
    return value
  }
  const only = (kind: MountOption['kind']): void => {
    if (mount.kind !== kind) throw bad(`${key} is for type=${kind}, not ${mount.kind}`)
  }
  switch (key) {
    case 'type':
      return
    case 'src':
    case 'source':
      if (mount.kind === 'tmpfs') throw bad('a tmpfs has no source')
      mount.source =
        mount.kind === 'bind' ? resolve(cwd, text()) : value ? volumeName(value, bad) : ''
      return
    case 'dst':
    case 'target':
    case 'destination':
      mount.target = targetPath(text(), bad)
      return
    case 'ro':
    case 'readonly':
      if (truth(key, value, bad)) readOnly(mount)
      return
    case 'rw':
      if (!truth(key, value, bad)) readOnly(mount)
      return
    case 'bind-propagation':
      only('bind')
      propagation(mount, text(), bad)
      return
    case 'bind-nonrecursive':
      only('bind')
      mount.nonRecursive = truth(key, value, bad)
      return
    case 'bind-recursive':
      only('bind')
      recursive(mount, text(), bad)
      return
    case 'bind-create-src':
      only('bind')
      mount.createSource = truth(key, value, bad)
      return
    case 'idmap':
      mount.idmap = truth(key, value, bad)
      return
    case 'volume-nocopy':
      only('volume')
      mount.noCopy = truth(key, value, bad)
      return
    case 'tmpfs-size':
      only('tmpfs')
      mount.options.push(`size=${parseSize(text())}`)
      return
    case 'tmpfs-mode':
      only('tmpfs')
      mount.options.push(`mode=${parseOctal(text()).toString(8)}`)
      return
    case 'volume-driver':
      only('volume')
      if (text() !== 'local') throw bad(`volume driver ${value} is not supported (local is)`)
      return
    case 'consistency':
      return
    case 'volume-opt':
    case 'volume-label':
    case 'volume-subpath':
    case 'image-subpath':
    case 'relabel':
    case 'U':
    case 'chown':
      throw bad(`key ${key} is not supported`)
    default:
      throw bad(`unknown key "${key}"`)
  }
}

/** `--tmpfs TARGET[:OPTIONS]`, options of mount(8) for tmpfs. */
export function parseTmpfs(text: string): MountOption {
  const bad = (reason: string): Fault => invalid(`"${text}"`, reason)
  const at = text.indexOf(':')
  const target = targetPath(at < 0 ? text : text.slice(0, at), bad)
  const mount: MountOption = { ...DEFAULTS, kind: 'tmpfs', target, options: [] }
  for (const option of at < 0 ? [] : text.slice(at + 1).split(',')) {
    const [key = '', value] = option.split('=')
    if (option === '' || option === 'rw') continue
    if (option === 'ro') mount.readOnly = true
    else if (FLAGS.includes(option)) mount.options.push(option)
    else if (key === 'size' && value && !value.endsWith('%')) {
      mount.options.push(`size=${parseSize(value)}`)
    } else if (key === 'mode' && value) {
      mount.options.push(`mode=${parseOctal(value).toString(8)}`)
    } else if (/^(size|nr_inodes|nr_blocks|uid|gid|huge)$/.test(key) && value) {
      mount.options.push(option)
    } else throw bad(`unknown option "${option}"`)
  }
  return mount
}

function readOnly(mount: MountOption): void {
  mount.readOnly = true
  mount.recursiveReadOnly = mount.kind === 'bind'
}

function recursive(mount: MountOption, value: string, bad: (reason: string) => Fault): void {
  if (value === 'disabled') mount.nonRecursive = true
  else if (value === 'writable') mount.recursiveReadOnly = false
  else if (value === 'readonly') {
    if (!mount.readOnly) throw bad('bind-recursive=readonly needs readonly before it')
    mount.recursiveReadOnly = true
  } else if (value !== 'enabled') {
    throw bad(`bind-recursive is enabled, disabled, writable or readonly, not "${value}"`)
  }
}

function propagation(mount: MountOption, value: string, bad: (reason: string) => Fault): void {
  if (!PROPAGATIONS.includes(value)) throw bad(`"${value}" is no propagation`)
  if (mount.kind !== 'bind') throw bad(`${value} is for bind mounts`)
  mount.propagation = value
}

function truth(key: string, value: string | undefined, bad: (reason: string) => Fault): boolean {
  if (value === undefined || value === 'true' || value === '1') return true
  if (value === 'false' || value === '0') return false
  throw bad(`${key} is true or false, not "${value}"`)
}

function targetPath(text: string | undefined, bad: (reason: string) => Fault): string {
  if (text === undefined || !isAbsolute(text)) {
    throw bad(`the path in the container, "${text ?? ''}", must be absolute`)
  }
  const path = normalize(text).replace(/(.)\/+$/, '$1')
  if (path === '/') throw bad('a mount on / would hide the whole image')
  return path
}

function volumeName(text: string, bad: (reason: string) => Fault): string {
  if (VOLUME_NAME.test(text)) return text
  throw bad(
    `"${text}" is no name of a volume (letters, digits, _ . -); for a path of the host write ./${text}`,
  )
}

function csvFields(text: string, bad: (reason: string) => Fault): string[] {
  const fields: string[] = []
  let field = ''
  let quoted = false
  for (let i = 0; i < text.length; i++) {
    const c = text[i] ?? ''
    if (c === '"') {
      if (quoted && text[i + 1] === '"') {
        field += '"'
        i++
      } else quoted = !quoted
    } else if (c === ',' && !quoted) {
      fields.push(field)
      field = ''
    } else field += c
  }
  if (quoted) throw bad('a quote is not closed')
  fields.push(field)
  if (fields.some((f) => f === '')) throw bad('a field is empty')
  return fields
}

function invalid(subject: string, reason: string): Fault {
  return new Fault('INVALID_ARGUMENT', `${subject}: ${reason}`)
}
