import { existsSync, readFileSync, realpathSync, writeFileSync } from 'node:fs'
import { relative, resolve } from 'node:path'
import type { Command } from 'commander'
import { Fault } from '../base/fault.ts'
import type { Context } from './context.ts'
import { stdin } from './load.ts'
import { examples, type Format, formatOption, option, printJson, refuse } from './output.ts'
import { progressView } from './progress.ts'

const plain = (text: string): string => text

interface Given {
  tag: string[]
  file?: string
  buildArg: [string, string | undefined][]
  target?: string
  label: [string, string | undefined][]
  pull?: true
  cache: boolean
  platform?: string
  network?: string
  addHost: string[]
  progress: string
  iidfile?: string
  quiet?: true
  format: Format
}

export function define(command: Command, context: Context): void {
  command
    .argument('<directory>', 'the build context')
    .addOption(option('-t, --tag <name>', 'of the image; may be repeated', plain, 'many'))
    .addOption(
      option('-f, --file <file>', 'in place of Dockerfile in the context; - for stdin', plain),
    )
    .addOption(option('--build-arg <name=value>', 'of an ARG', parsePair, 'many'))
    .addOption(option('--target <stage>', 'in place of the last stage', plain))
    .addOption(option('--label <name=value>', 'of the image', parsePair, 'many'))
    .option('--pull', 'look for a newer base image')
    .option('--no-cache', 'make every step anew')
    .addOption(option('--platform <os/arch>', 'of the base images', plain))
    .addOption(option('--network <mode>', 'of RUN, as of berth run', plain))
    .addOption(option('--add-host <name:ip>', 'in the /etc/hosts of RUN', plain, 'many'))
    .addOption(option('--progress <kind>', 'plain', parseProgress).default('plain'))
    .addOption(option('--iidfile <file>', "gets the image's id", plain))
    .option('-q, --quiet', "only the image's id, and what went wrong")
    .addOption(formatOption())
    .addHelpText(
      'after',
      `
A step that nothing has changed for is taken from the last build. With SOURCE_DATE_EPOCH in the environment (or as --build-arg) the same input gives the same
digest. What BuildKit has beyond (RUN --mount, secrets, here-documents) is refused by name.${examples(
        'berth build -t app .',
        'berth build -t app:test --target test --build-arg VERSION=1.2 -f docker/Dockerfile .',
      )}`,
    )
    .action(async (directory: string, given: Given) => {
      checkContext(directory)
      const dockerfile = await dockerfileOf(directory, given.file)
      const buildArgs = argsOf(given.buildArg)
      const { api, engine } = await context.open(() => import('../build/build.ts'))
      const epochNs = epochOf(buildArgs, api.EPOCH)
      const abort = new AbortController()
      const stop = (): void =>
        abort.abort(new Fault('FAILED_PRECONDITION', 'the build was stopped', { exit: 130 }))
      process.on('SIGINT', stop).on('SIGTERM', stop).on('SIGHUP', stop)
      const view = progressView(given.quiet === true)
      const tell = tellerOf(context, given.quiet === true)
      try {
        const made = await api.buildImage(engine, {
          context: directory,
          ...dockerfile,
          names: given.tag,
          target: given.target,
          platform: given.platform,
          buildArgs,
          labels: Object.fromEntries(given.label.map(([name, value]) => [name, value ?? ''])),
          pull: given.pull === true,
          noCache: !given.cache,
          network: given.network,
          addHosts: given.addHost,
          epochNs,
          output: tell.output,
          report: tell.report,
          progress: view.report,
          signal: abort.signal,
        })
        view.finish()
        if (given.iidfile !== undefined) writeFileSync(given.iidfile, made.id)
        await (given.format === 'json' ? printJson(context, made) : context.print(`${made.id}\n`))
      } catch (error) {
        await tell.failed()
        throw error
      } finally {
        view.finish()
        process.off('SIGINT', stop).off('SIGTERM', stop).off('SIGHUP', stop)
      }
    })
  const beyond = 'BuildKit has it, berth not yet'
  refuse(command, {
    '--secret': beyond,
    '--ssh': beyond,
    '--cache-from': 'steps are cached by content on this machine',
    '--cache-to': 'steps are cached by content on this machine',
    '--build-context': 'name a stage or an image in COPY --from',
    '-o, --output': 'the image is in the store: see berth save and berth export',
    '--squash': 'for one layer: berth export and berth import',
    '--allow': beyond,
    '--attest': beyond,
    '--provenance': beyond,
    '--sbom': beyond,
    '--cgroup-parent': 'steps run in the group of all containers',
    '--security-opt': "steps run with berth run's defaults",
    '-m, --memory': 'limit berth itself, or run the step by berth run and commit it',
    '--shm-size': "steps run with berth run's defaults",
    '--ulimit': "steps run with berth run's defaults",
  })
}

function checkContext(directory: string): void {
  if (directory === '-') {
    throw new Fault(
      'UNIMPLEMENTED',
      'a context from stdin is not supported: unpack it into a directory',
    )
  }
  if (/^(https?|git|ssh):\/\/|^git@/.test(directory) && !existsSync(directory)) {
    throw new Fault(
      'UNIMPLEMENTED',
      `a context from an address (${directory}) is not supported: fetch it into a directory`,
    )
  }
}

/** A file in the context is read there, so that links of the context lead nowhere else; another one is the user's own. */
async function dockerfileOf(
  directory: string,
  file: string | undefined,
): Promise<{ dockerfile: string | undefined; file: string | undefined }> {
  if (file === undefined) return { dockerfile: undefined, file }
  if (file === '-') {
    const chunks: Buffer[] = []
    for await (const chunk of stdin('the Dockerfile')) chunks.push(Buffer.from(chunk))
    return { dockerfile: Buffer.concat(chunks).toString('utf8'), file: undefined }
  }
  if (!existsSync(file)) return { dockerfile: undefined, file }
  const inside = existsSync(directory) ? relative(realpathSync(directory), resolve(file)) : '..'
  if (!inside.startsWith('..')) return { dockerfile: undefined, file: inside }
  return { dockerfile: readFileSync(file, 'utf8'), file: undefined }
}

function parsePair(text: string): [string, string | undefined] {
  const at = text.indexOf('=')
  if (at < 1 && (at === 0 || text === ''))
    throw new Fault('INVALID_ARGUMENT', `"${text}" is no name=value`)
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)]
}

/** A name alone is the caller's value, and nothing where he has none. */
function argsOf(given: readonly (readonly [string, string | undefined])[]): Map<string, string> {
  const args = new Map<string, string>()
  for (const [name, value = process.env[name]] of given) {
    if (value !== undefined) args.set(name, value)
  }
  return args
}

function epochOf(args: Map<string, string>, name: string): bigint | undefined {
  const text = args.get(name) ?? process.env[name]
  if (text === undefined || text === '') return
  if (!/^\d{1,12}$/.test(text)) {
    throw new Fault('INVALID_ARGUMENT', `${name} is "${text}", no number of seconds since 1970`)
  }
  args.set(name, text)
  return BigInt(text) * 1_000_000_000n
}

function parseProgress(text: string): string {
  if (text === 'plain' || text === 'auto') return 'plain'
  throw new Fault('UNIMPLEMENTED', `"${text}" is not supported: berth has plain`)
}

/** Bytes of output kept, in case it is to be told why a quiet build has failed. */
const KEPT_BYTES_MAX = 64 * 1024

/** Steps and what they write go to stderr, the id alone to stdout. */
function tellerOf(context: Context, quiet: boolean) {
  let kept: Buffer[] = []
  let bytes = 0
  return {
    report: (line: string): void => {
      if (!quiet) void context.write('stderr', `${clean(line)}\n`).catch(() => {})
    },
    output: async (data: Buffer): Promise<void> => {
      if (!quiet) return context.write('stderr', data).catch(() => {})
      kept.push(data)
      bytes += data.length
      while (bytes > KEPT_BYTES_MAX && kept.length > 1) bytes -= kept.shift()?.length ?? 0
    },
    failed: async (): Promise<void> => {
      if (kept.length > 0) await context.write('stderr', Buffer.concat(kept)).catch(() => {})
      kept = []
    },
  }
}

/** One line, whatever a Dockerfile has in it. */
function clean(line: string): string {
  return line.replace(/\p{Cc}/gu, ' ')
}
