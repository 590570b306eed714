import type { Command } from 'commander'
import { Fault } from '../base/fault.ts'
import type { ImageConfig } from '../spec/image.ts'
import { type Context, print } from './context.ts'
import { openImages } from './image-store.ts'
import { stdin } from './load.ts'
import { examples, type Format, formatOption, option, printJson } from './output.ts'
import { progressView } from './progress.ts'

const plain = (text: string): string => text

interface Given {
  change: [key: string, value: string][]
  message?: string
  platform?: string
  quiet?: true
  format: Format
}

export function define(command: Command, context: Context): void {
  command
    .argument('<archive>', 'tar of a root file system, plain, gzip or zstd; - for stdin')
    .argument('[name]', 'of the image')
    .addOption(
      option(
        '-c, --change <instruction>',
        'CMD, ENTRYPOINT, ENV, LABEL, USER, WORKDIR, EXPOSE, VOLUME or STOPSIGNAL, as in a Dockerfile',
        parseChange,
        'many',
      ),
    )
    .addOption(option('-m, --message <text>', "of the image's history", plain))
    .addOption(option('--platform <os/arch>', "in place of this machine's", plain))
    .option('-q, --quiet', 'no progress')
    .addOption(formatOption())
    .addHelpText(
      'after',
      examples(
        'berth import rootfs.tar.gz debian:mine',
        `debootstrap stable rootfs && tar -C rootfs -c . | berth import -c 'CMD ["bash"]' - debian`,
      ),
    )
    .action(async (archive: string, name: string | undefined, given: Given) => {
      const config = changedConfig(given.change ?? [])
      const source = archive === '-' ? stdin('the archive') : archive
      const { store, changed } = await openImages(context)
      const { importImage } = await import('../image/import.ts')
      const view = progressView(given.quiet === true)
      try {
        const loaded = await importImage(store, source, {
          name,
          config,
          platform: given.platform,
          message: given.message,
          created: new Date().toISOString(),
          progress: view.report,
        })
        view.finish()
        await changed('import', loaded.id, loaded.names[0] ?? loaded.id)
        await (given.format === 'json' ? printJson(loaded) : print(`${loaded.id}\n`))
      } finally {
        view.finish()
      }
    })
}

/** The parts of `KEYWORD value`. */
export function parseChange(text: string): [keyword: string, value: string] {
  const match = /^\s*([a-z]+)\s+(.+?)\s*$/is.exec(text)
  if (match) return [(match[1] ?? '').toUpperCase(), match[2] ?? '']
  throw new Fault('INVALID_ARGUMENT', `"${text}" is no instruction, such as CMD ["sh"]`)
}

type Config = NonNullable<ImageConfig['config']>

/** The image's defaults as the instructions of --change make them. */
export function changedConfig(
  changes: readonly (readonly [string, string])[],
  before: Config = {},
): Config {
  const config: Config = { ...before }
  for (const [keyword, value] of changes) change(config, keyword, value)
  return config
}

function change(config: Config, keyword: string, value: string): void {
  switch (keyword) {
    case 'CMD':
      config.Cmd = command(value)
      return
    case 'ENTRYPOINT':
      config.Entrypoint = command(value)
      return
    case 'ENV': {
      const [key, text] = pair(keyword, value)
      const others = (config.Env ?? []).filter((entry) => !entry.startsWith(`${key}=`))
      config.Env = [...others, `${key}=${text}`]
      return
    }
    case 'LABEL': {
      const [key, text] = pair(keyword, value)
      config.Labels = { ...config.Labels, [key]: text }
      return
    }
    case 'USER':
      config.User = value
      return
    case 'WORKDIR':
      config.WorkingDir = value
      return
    case 'STOPSIGNAL':
      config.StopSignal = value
      return
    case 'EXPOSE':
      for (const port of value.split(/\s+/)) {
        config.ExposedPorts = {
          ...config.ExposedPorts,
          [port.includes('/') ? port : `${port}/tcp`]: {},
        }
      }
      return
    case 'VOLUME': {
      const paths = list(value) ?? value.split(/\s+/)
      for (const path of paths) config.Volumes = { ...config.Volumes, [path]: {} }
      return
    }
    default:
      throw new Fault('UNIMPLEMENTED', `option --change: instruction ${keyword} is not supported`)
  }
}

/** A JSON list is the program and its arguments; other text is a shell's. */
function command(value: string): string[] {
  return list(value) ?? ['/bin/sh', '-c', value]
}

function list(value: string): string[] | undefined {
  if (!value.startsWith('[')) return undefined
  try {
    const parsed: unknown = JSON.parse(value)
    if (Array.isArray(parsed) && parsed.every((part) => typeof part === 'string')) return parsed
  } catch {
    // Told below.
  }
  throw new Fault('INVALID_ARGUMENT', `option --change: ${value} is no JSON list of texts`)
}

/** `KEY=value` or `KEY value`; quotes around the value are the shell's habit in a Dockerfile. */
function pair(keyword: string, value: string): [string, string] {
  const match = /^([^=\s]+)(?:=|\s+)(.*)$/s.exec(value)
  if (!match)
    throw new Fault('INVALID_ARGUMENT', `option --change: ${keyword} ${value} is no KEY=VALUE`)
  return [match[1] ?? '', (match[2] ?? '').replace(/^(["'])(.*)\1$/s, '$2')]
}
