import { closeSync, constants, lstatSync, openSync, statSync } from 'node:fs'
import { basename, dirname, resolve } from 'node:path'
import { Readable } from 'node:stream'
import type { Command } from 'commander'
import { Fault, isErrno } from '../base/fault.ts'
import type { Engine } from '../engine/open.ts'
import type { Context } from './context.ts'
import { stdin } from './load.ts'
import { examples, refuse } from './output.ts'

interface Given {
  archive?: true
}

export function define(command: Command, context: Context): void {
  command
    .argument('<source>', 'CONTAINER:PATH, a path of the host, or - for a tar on stdin')
    .argument('<target>', 'a path of the host, CONTAINER:PATH, or - for a tar on stdout')
    .option('-a, --archive', 'keep owners, setuid bits, devices and attributes')
    .option('-q, --quiet', 'says nothing anyway')
    .addHelpText(
      'after',
      `
A directory goes into a target that exists, and becomes one that does not; DIRECTORY/. is what is in it. Links are copied as links.
Without --archive the copy belongs to you (or to the container's root), and nothing in it is setuid or a device.${examples(
        'berth cp web:/etc/nginx ./nginx',
        'berth cp index.html web:/usr/share/nginx/html/',
        'berth cp web:/var/log - | tar -t',
      )}`,
    )
    .action(async (source: string, target: string, given: Given) => {
      const from = parsePlace(source)
      const to = parsePlace(target)
      if ((from.container === undefined) === (to.container === undefined)) {
        throw new Fault(
          'INVALID_ARGUMENT',
          'one of source and target must be CONTAINER:PATH, and the other must not',
        )
      }
      const { api, engine } = await context.open(() => import('../engine/copy.ts'))
      const archive = given.archive === true
      if (from.container !== undefined) {
        await copyOut(
          context,
          api,
          engine,
          { container: from.container, path: from.path },
          to.path,
          archive,
        )
      } else {
        const container = to.container ?? ''
        await copyIn(api, engine, from.path, { container, path: to.path }, archive)
      }
    })
  refuse(command, { '-L, --follow-link': 'name what the link leads to' })
}

/** `CONTAINER:PATH`; a host path with a colon is written with a slash before it. */
export function parsePlace(text: string): { container?: string; path: string } {
  const match = /^([^/.:][^/:]*):(.*)$/s.exec(text)
  if (!match) return { path: text }
  if (match[2] === '') {
    throw new Fault('INVALID_ARGUMENT', `"${text}" names no path in the container`)
  }
  return { container: match[1] ?? '', path: match[2] ?? '' }
}

/** Where a copy goes: the directory, and the name of the copied thing in it; '' for the directory itself. */
export interface Destination {
  readonly directory: string
  readonly name: string
}

/** docker's rules for what `cp SOURCE TARGET` means, by what is at the target. */
export function destination(
  source: { readonly name: string; readonly kind: string; readonly contents: boolean },
  target: { readonly path: string; readonly kind: string | undefined },
): Destination {
  const bad = (reason: string): Fault =>
    new Fault('FAILED_PRECONDITION', `cannot copy to ${target.path}: ${reason}`)
  if (target.kind === 'directory') {
    return { directory: target.path, name: source.contents ? '' : source.name }
  }
  if (target.kind !== undefined) {
    if (source.kind === 'directory') throw bad('it is no directory, and the source is one')
    if (target.path.endsWith('/')) throw bad('it is no directory')
  } else if (target.path.endsWith('/') && source.kind !== 'directory') {
    throw bad('there is no such directory')
  }
  const path = target.path.replace(/(.)\/+$/, '$1')
  return { directory: dirname(path), name: basename(path) }
}

async function copyOut(
  context: Context,
  api: typeof import('../engine/copy.ts'),
  engine: Engine,
  from: { container: string; path: string },
  path: string,
  archive: boolean,
): Promise<void> {
  const { base, kind, tar } = await api.copyFromContainer(engine, from.container, from.path)
  if (path === '-') {
    for await (const chunk of tar) await context.write('stdout', chunk as Buffer)
    return
  }
  const contents = /(^|\/)\.$/.test(from.path)
  const { directory, name } = destination(
    { name: base === '.' ? '' : base, kind, contents },
    { path, kind: hostKind(path) },
  )
  const [{ LAYER_LIMITS, printable, TarReader, textName }, { TreeWriter }] = await Promise.all([
    import('../layer/index.ts'),
    import('../layer/tree-writer.ts'),
  ])
  const top = textName(name)
  const first = textName(base)
  const rootFd = openDirectory(directory)
  try {
    const owner = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 }
    const writer = new TreeWriter(rootFd, {
      format: 'plain',
      limits: LAYER_LIMITS,
      owner: archive ? undefined : owner,
      crossMounts: true,
      rename: (path) => renamed(path, first, top),
    })
    try {
      const reader = new TarReader(archive ? writer : harmless(writer, printable), LAYER_LIMITS)
      for await (const chunk of tar) reader.push(chunk as Buffer)
      reader.finish()
      writer.finish()
    } finally {
      writer.close()
    }
  } finally {
    closeSync(rootFd)
  }
}

/** An entry's path below another top: all entries of the archive are `base` or below it. */
export function renamed(path: string, base: string, top: string): string {
  const clean = path.replace(/^(\.\/)+/, '').replace(/\/+$/, '')
  // The root has no name: what is in it comes without one.
  if (base === '.') return clean === '.' ? top : `${top}/${clean}`
  const slash = clean.indexOf('/')
  return slash < 0 ? top : top + clean.slice(slash)
}

type Sink = import('../layer/index.ts').TarSink

/**
 * Takes away what would give a program of the container power on the host: a setuid file that now belongs to the host's root, a device,
 * file capabilities.
 */
function harmless(sink: Sink, text: (name: string) => string): Sink {
  return {
    entry: (entry) => {
      if (entry.kind === 'character' || entry.kind === 'block') {
        throw new Fault(
          'FAILED_PRECONDITION',
          `${text(entry.path)} is a device: say --archive to copy it, too`,
        )
      }
      sink.entry({ ...entry, mode: entry.mode & 0o1777, xattrs: new Map() })
    },
    data: (chunk) => sink.data(chunk),
    end: () => sink.end(),
  }
}

async function copyIn(
  api: typeof import('../engine/copy.ts'),
  engine: Engine,
  path: string,
  to: { container: string; path: string },
  archive: boolean,
): Promise<void> {
  if (path === '-') {
    const source = Readable.from(stdin('the archive'), { objectMode: false })
    return api.copyToContainer(engine, to.container, to.path, source, { archive })
  }
  const kind = hostKind(path, 'link')
  if (kind === undefined) throw new Fault('NOT_FOUND', `there is no ${path} on the host`)
  const contents = /(^|\/)\.$/.test(path)
  const full = resolve(path)
  const inside = `/${to.path}`.replace(/^\/+/, '/')
  // With a slash at its end a link is followed.
  const there = await api.statInContainer(engine, to.container, `${inside.replace(/\/+$/, '')}/`)
  const { directory, name } = destination(
    { name: basename(full), kind, contents },
    { path: inside, kind: there?.kind },
  )
  const { packTree, textName } = await import('../layer/index.ts')
  const rootFd = openDirectory(full === '/' ? '/' : dirname(full))
  try {
    const packed = packTree({
      rootFd,
      path: textName(basename(full)),
      base: textName(name === '' ? '.' : name),
      crossMounts: true,
    })
    const tar = Readable.from(packed, { objectMode: false })
    await api.copyToContainer(engine, to.container, directory, tar, { archive })
  } finally {
    closeSync(rootFd)
  }
}

function openDirectory(path: string): number {
  try {
    return openSync(path, constants.O_RDONLY | constants.O_DIRECTORY)
  } catch (error) {
    throw new Fault('NOT_FOUND', `cannot open the directory ${path} of the host`, { cause: error })
  }
}

/** What is at a path of the host; a link that is to be copied itself is not followed. */
function hostKind(path: string, link?: 'link'): string | undefined {
  const look = link && !path.endsWith('/') ? lstatSync : statSync
  try {
    const stat = look(path, { throwIfNoEntry: false })
    if (!stat) return undefined
    return stat.isDirectory() ? 'directory' : stat.isFile() ? 'file' : 'other'
  } catch (error) {
    if (isErrno(error, 'ENOTDIR')) return undefined
    throw error
  }
}
