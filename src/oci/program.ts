import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { inspect } from 'node:util'
import { Command, CommanderError } from 'commander'
import { Ahead } from '../base/ahead.ts'
import { describe, Fault } from '../base/fault.ts'
import { packageVersion } from '../engine/version.ts'
import { type Caller, CallerGone, NotHere, onlySelf } from '../kernel/caller.ts'
import { activationOf } from './activation.ts'
import type { CheckpointOptions } from './checkpoint.ts'
import { parseDocument, readDocument, streamText } from './config.ts'
import type { CreateRequest } from './create.ts'
import type { CriuOptions } from './criu.ts'
import { Log } from './output.ts'
import { preservedCount } from './preserve.ts'
import type { ProcessOptions } from './process.ts'
import { type Place, placeOf, readRecord } from './record.ts'
import type { RestoreOptions } from './restore.ts'
import { asProcess, asResources } from './shape.ts'
import type { UpdateOptions } from './update.ts'
import { OCI_VERSION } from './version.ts'
import { goWords } from './words.ts'

export const DEFAULT_ROOT = '/run/berth-oci'

/** Where runc has the images, if it is not told. */
const DEFAULT_IMAGES = 'checkpoint'

/** As runc has them: of `exec` the code says whether the program or the runtime has failed. */
const FAILED = 1
const EXEC_FAILED = 255

interface GlobalOptions {
  readonly root: string
  readonly log?: string
  readonly logFormat: string
  readonly debug?: boolean
  readonly systemdCgroup?: boolean
  readonly rootless: string
}

interface CreateOptions {
  readonly bundle: string
  readonly consoleSocket?: string
  readonly pidFile?: string
  readonly pidfdSocket?: string
  readonly preserveFds: string
  readonly pivot: boolean
  readonly newKeyring: boolean
  readonly detach?: boolean
  readonly keep?: boolean
}

interface ExecOptions extends ProcessOptions, Omit<CreateOptions, 'pivot' | 'newKeyring' | 'keep'> {
  readonly process?: string
  readonly ignorePaused?: boolean
  readonly cgroup?: string
}

/** Runs one command line of `berth-oci`, or of `berth oci`; gives its exit code. NotHere where the caller must do it himself. */
export async function runOci(
  args: readonly string[],
  name: string,
  caller: Caller,
): Promise<number> {
  const parts = partsOf(args)
  if (caller.isSelf) return new CommandLine(name, parts).run(args, caller)
  const kind = [name, ...parts].join('\n')
  try {
    return await (await linesAhead.take(kind)).run(args, caller)
  } finally {
    linesAhead.again(kind)
  }
}

/** Commands, and the call that they are run for. */
class CommandLine {
  // Known when they are run.
  readonly caller!: Caller
  readonly #name: string
  readonly #root: Command
  #args: readonly string[] = []
  #log!: Log
  #code = 0

  constructor(name: string, parts: readonly Part[]) {
    this.#name = name
    this.#root = commands(name, parts, this)
  }

  /** Once. */
  async run(args: readonly string[], caller: Caller): Promise<number> {
    Object.assign(this, { caller })
    this.#args = args
    this.#log = new Log(caller, { path: undefined, format: 'text', debug: false })
    const { words, command } = goWords(this.#root, args)
    try {
      if (words.length === 0) this.#root.outputHelp()
      else await this.#root.parseAsync(words, { from: 'user' })
      return this.#code
    } catch (error) {
      if (error instanceof NotHere || error instanceof CallerGone) throw error
      if (error instanceof CommanderError && error.exitCode === 0) return 0
      this.#log.debug(inspect(error))
      // The last line is the reason that engines read.
      this.#log.error(error instanceof CommanderError ? error.message : describe(error))
      return command === 'exec' ? EXEC_FAILED : FAILED
    }
  }

  readonly log = (log: Log): void => {
    this.#log = log
    log.debug(`${this.#name} ${packageVersion()}: ${this.#args.join(' ')}`)
  }

  readonly warn = (message: string): void => this.#log.warn(message)

  readonly exit = (code: number): void => {
    this.#code = code
  }
}

type Context = Pick<CommandLine, 'caller' | 'log' | 'warn' | 'exit'>

/** Of a daemon. */
const linesAhead = new Ahead(async (kind) => {
  const [name = '', ...parts] = kind.split('\n')
  return new CommandLine(name, parts as Part[])
})

/** The commands whose options are made together. */
const PARTS = {
  'create run start kill delete': lifecycle,
  exec: execution,
  'state list ps events': looking,
  'pause resume update': changing,
  'spec features': documents,
  'checkpoint restore': checkpoints,
}
type Part = keyof typeof PARTS

/** Of a call: the options of all commands take longer to make than most commands to do. */
function partsOf(args: readonly string[]): Part[] {
  const all = Object.keys(PARTS) as Part[]
  const named = all.filter((part) => part.split(' ').some((name) => args.includes(name)))
  const isAsked = args.includes('--help') || args.includes('-h')
  return isAsked || named.length === 0 ? all : named
}

function commands(name: string, parts: readonly Part[], context: Context): Command {
  const root = new Command(name)
  root
    .description(
      'An OCI runtime: makes and runs containers from bundles, for engines such as podman, containerd and docker.',
    )
    .option('--root <directory>', 'where the state of containers is kept', DEFAULT_ROOT)
    .option('--log <file>', 'where errors and warnings go (default: stderr)')
    .option('--log-format <format>', 'text or json', 'text')
    .option('--debug', 'tell more')
    .option('--systemd-cgroup', 'have systemd make the cgroups')
    .option('--rootless <value>', 'false or auto: berth-oci needs root', 'auto')
    .version(versionText(name), '-v, --version')
    .enablePositionalOptions()
    .passThroughOptions()
    .helpCommand(false)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => context.caller.write(1, text),
      writeErr: () => {},
      outputError: () => {},
    })
    .hook('preAction', () => judgeGlobals(root.opts<GlobalOptions>(), context))
  const place = (id: string): Place => placeOf(stateOf(root, context), id)
  for (const part of parts) PARTS[part](root, context, place)
  for (const command of root.commands) command.exitOverride().copyInheritedSettings(root)
  return root
}

/** Where the state of all containers is. */
function stateOf(root: Command, { caller }: Context): string {
  return caller.resolve(root.opts<GlobalOptions>().root)
}

function judgeGlobals(options: GlobalOptions, context: Context): void {
  const { log, logFormat, debug = false } = options
  context.log(new Log(context.caller, { path: log, format: logFormat, debug }))
  if (!['false', 'auto'].includes(options.rootless)) {
    throw new Fault(
      'UNIMPLEMENTED',
      `--rootless=${options.rootless} is not supported: berth-oci needs root`,
    )
  }
}

function versionText(name: string): string {
  return `${name} version ${packageVersion()}\nspec: ${OCI_VERSION}`
}

function creation(command: Command): Command {
  return command
    .option('-b, --bundle <directory>', 'where config.json is', '.')
    .option('--console-socket <socket>', 'who takes the terminal')
    .option('--pid-file <file>', 'where the pid of the first process is written')
    .option('--pidfd-socket <socket>', 'who gets a pidfd of the first process')
    .option('--preserve-fds <n>', 'descriptors from 3 on that the program gets', '0')
    .option(
      '--no-pivot',
      'leave the old root without pivot_root, for hosts that run from an initramfs',
    )
    .option('--no-new-keyring', "stay in the caller's session keyring")
}

function requestOf(
  root: Command,
  context: Context,
  id: string,
  options: CreateOptions,
  foreground: boolean,
): CreateRequest {
  const activation = activationOf(context.caller.env, process.pid)
  return {
    caller: context.caller,
    root: stateOf(root, context),
    id,
    bundle: context.caller.resolve(options.bundle),
    ...askedOf(context, options, activation.count),
    env: activation.env,
    notify: notifyOf(context),
    cgroups: root.opts<GlobalOptions>().systemdCgroup ? 'systemd' : 'cgroupfs',
    keepKeyring: !options.newKeyring,
    pivot: options.pivot,
    foreground,
    warn: context.warn,
  }
}

function notifyOf({ caller }: Context): string | undefined {
  return caller.env['NOTIFY_SOCKET'] || undefined
}

function askedOf(
  { caller }: Context,
  o: Pick<CreateOptions, 'consoleSocket' | 'pidFile' | 'pidfdSocket' | 'preserveFds'>,
  listening = 0,
): {
  consoleSocket: string | undefined
  pidFile: string | undefined
  pidfdSocket: string | undefined
  preserve: number
} {
  const absolute = (path: string | undefined) => (path ? caller.resolve(path) : undefined)
  return {
    consoleSocket: absolute(o.consoleSocket),
    pidFile: absolute(o.pidFile),
    pidfdSocket: absolute(o.pidfdSocket),
    preserve: preservedCount(caller, o.preserveFds, listening),
  }
}

function lifecycle(root: Command, context: Context, place: (id: string) => Place): void {
  creation(root.command('create <id>').summary('make a container, do not start it')).action(
    async (id: string, options: CreateOptions) => {
      const { createContainer } = await import('./create.ts')
      const { launch } = await createContainer(requestOf(root, context, id, options, false))
      await launch.close()
    },
  )
  creation(root.command('run <id>').summary('make a container, start it, wait for its end'))
    .option('-d, --detach', 'do not wait')
    .option('--keep', 'do not delete the container at its end')
    .action(async (id: string, options: CreateOptions) => {
      const { runContainer } = await import('./run.ts')
      const request = requestOf(root, context, id, options, !options.detach)
      context.exit(await runContainer({ ...request, keep: options.keep ?? false }))
    })
  root
    .command('start <id>')
    .summary('have a created container execute its program')
    .action(async (id: string) => {
      const { startAndTell } = await import('./start.ts')
      const telling = { notify: notifyOf(context), warn: context.warn }
      await startAndTell(context.caller, place(id), telling)
    })
  root
    .command('kill <id> [signal]')
    .summary('send a signal (default: SIGTERM)')
    .option('-a, --all', 'to all processes of the container')
    .action(async (id: string, signal = 'SIGTERM', options: { all?: boolean } = {}) => {
      const { parseSignal, signalContainer } = await import('./kill.ts')
      await signalContainer(place(id), parseSignal(signal), options.all ?? false)
    })
  root
    .command('delete <id>')
    .summary('take away a stopped container')
    .option('-f, --force', 'kill it first; one that is not there is no error')
    .action(async (id: string, { force = false }: { force?: boolean }) => {
      const { deleteContainer } = await import('./delete.ts')
      await deleteContainer(context.caller, stateOf(root, context), place(id), {
        force,
        warn: context.warn,
      })
    })
}

function collect(value: string, before: string[] = []): string[] {
  return [...before, value]
}

function execution(root: Command, context: Context, place: (id: string) => Place): void {
  root
    .command('exec <id> [program...]')
    .summary('run a further program in a container')
    .passThroughOptions()
    .option('--console-socket <socket>', 'who takes the terminal')
    .option('--pidfd-socket <socket>', 'who gets a pidfd of the process')
    .option('--pid-file <file>', 'where the pid is written')
    .option(
      '-p, --process <file>',
      "a process of the runtime-spec's form, instead of the other options",
    )
    .option('--cwd <directory>', 'working directory')
    .option('-e, --env <variable>', 'NAME=VALUE, more than once', collect)
    .option('-t, --tty', 'with a terminal')
    .option('-u, --user <uid:gid>', 'numbers')
    .option('-g, --additional-gids <gid>', 'more than once', collect)
    .option('--process-label <label>', 'of SELinux')
    .option('--apparmor <profile>', 'of AppArmor')
    .option('--no-new-privs', 'no new privileges')
    .option('-c, --cap <capability>', 'more than once', collect)
    .option('-d, --detach', 'do not wait')
    .option('--preserve-fds <n>', 'descriptors from 3 on that the program gets', '0')
    .option('--ignore-paused', 'also in a paused container')
    .option('--cgroup <path>', "a cgroup below the container's that the process begins in")
    .action(async (id: string, program: string[], given: ExecOptions & { newPrivs?: boolean }) => {
      const [{ execInContainer }, { processOf }, { exitOf, passSignals }] = await Promise.all([
        import('./exec.ts'),
        import('./process.ts'),
        import('./run.ts'),
      ])
      const options = { ...given, noNewPrivs: given.newPrivs === false }
      const path = options.process && context.caller.resolve(options.process)
      const file = path ? asProcess(path, readDocument(path)) : undefined
      const foreground = !options.detach
      const { pid, launch } = await execInContainer(place(id), {
        caller: context.caller,
        root: stateOf(root, context),
        processOf: (own) => file ?? processOf(own, program, options),
        ...askedOf(context, options),
        foreground,
        ignorePaused: options.ignorePaused ?? false,
        group: options.cgroup || undefined,
        warn: context.warn,
      })
      const stop = foreground ? await passSignals(context.caller, pid) : undefined
      if (foreground) context.exit(await exitOf(launch))
      await launch.close()
      stop?.()
    })
}

function criu(command: Command): Command {
  return command
    .option('--image-path <directory>', 'where the images are', DEFAULT_IMAGES)
    .option('--work-path <directory>', "where CRIU's log and other files go (default: the same)")
    .option('--tcp-established', 'with open TCP connections')
    .option('--ext-unix-sk', 'with Unix sockets whose other end is outside')
    .option('--shell-job', 'with a terminal or session from outside')
    .option('--file-locks', 'with locks of files')
    .option('--manage-cgroups-mode <mode>', 'soft, full, strict or ignore')
    .option('--empty-ns <namespace>', 'network: make it, leave it empty (always so)', collect)
    .option('--auto-dedup', 'drop from older images what newer ones have')
    .option('--lazy-pages', 'refused: not supported')
}

function directoriesOf(
  { caller }: Context,
  { imagePath, workPath, lazyPages, statusFd }: CriuOptions & Lazy,
) {
  if (lazyPages) throw new Fault('UNIMPLEMENTED', '--lazy-pages is not supported')
  if (statusFd !== undefined && statusFd !== '-1') {
    throw new Fault('UNIMPLEMENTED', '--status-fd is not supported: it is for --lazy-pages')
  }
  return {
    images: caller.resolve(imagePath || DEFAULT_IMAGES),
    work: workPath ? caller.resolve(workPath) : undefined,
  }
}

interface Lazy {
  readonly lazyPages?: boolean
  readonly statusFd?: string
}

/** Left to the caller's own process: CRIU is its child, and may be handed its descriptors. */
function checkpoints(root: Command, context: Context, place: (id: string) => Place): void {
  criu(root.command('checkpoint <id>').summary("write a running container's state into images"))
    .option('--parent-path <directory>', 'images of a pre-dump, relative to the new ones')
    .option('--leave-running', 'the container goes on')
    .option('--tcp-skip-in-flight', 'without TCP connections that are being made')
    .option('--link-remap', 'unlinked files get a name again')
    .option('--status-fd <fd>', 'refused: not supported')
    .option('--page-server <address:port>', 'where the memory is sent')
    .option('--pre-dump', 'the memory only; the container goes on')
    .action(async (id: string, options: CheckpointOptions & Lazy) => {
      const { caller, warn } = context
      onlySelf(caller)
      const { checkpointContainer } = await import('./checkpoint.ts')
      const whole = { ...options, ...directoriesOf(context, options) }
      await checkpointContainer(caller, stateOf(root, context), place(id), whole, warn)
    })
  criu(root.command('restore <id>').summary('make a container of the images of a checkpoint'))
    .option('-b, --bundle <directory>', 'where config.json is', '.')
    .option('--console-socket <socket>', 'who takes the terminal')
    .option('--pid-file <file>', 'where the pid of the first process is written')
    .option('-d, --detach', 'do not wait')
    .option('--no-subreaper', 'as always: the processes become children of the caller')
    .option('--no-pivot', 'refused: not supported')
    .option('--lsm-profile <type:name>', 'another profile of AppArmor or SELinux')
    .option('--lsm-mount-context <context>', 'another SELinux context for mounts')
    .action(async (id: string, options: RestoreOptions & CreateOptions & Lazy) => {
      onlySelf(context.caller)
      const { restoreContainer } = await import('./restore.ts')
      if (!options.pivot)
        throw new Fault('UNIMPLEMENTED', '--no-pivot is not supported: CRIU pivots')
      const given = { ...options, preserveFds: '0', newKeyring: true }
      const request = requestOf(root, context, id, given, !options.detach)
      const whole = { ...options, ...directoriesOf(context, options) }
      context.exit(await restoreContainer(request, whole))
    })
}

function looking(root: Command, context: Context, place: (id: string) => Place): void {
  root
    .command('state <id>')
    .summary("print a container's state")
    .action(async (id: string) => {
      const { stateRow } = await import('./list.ts')
      const row = await stateRow(place(id), readRecord(place(id)))
      context.caller.write(1, `${JSON.stringify(row, undefined, 2)}\n`)
    })
  root
    .command('list')
    .summary('list containers')
    .option('-f, --format <format>', 'table or json', 'table')
    .option('-q, --quiet', 'ids only')
    .action(async ({ format, quiet }: { format: string; quiet?: boolean }) => {
      const { listContainers, listText } = await import('./list.ts')
      const rows = await listContainers(stateOf(root, context))
      context.caller.write(
        1,
        quiet ? rows.map((row) => `${row.id}\n`).join('') : listText(rows, format),
      )
    })
  root
    .command('ps <id> [options...]')
    .summary("list a container's processes")
    .passThroughOptions()
    .option('-f, --format <format>', 'table or json', 'table')
    .action(async (id: string, options: string[], { format }: { format: string }) => {
      const { processesText } = await import('./ps.ts')
      if (format !== 'json') onlySelf(context.caller)
      context.caller.write(1, processesText(place(id), format, options))
    })
  root
    .command('events <id>')
    .summary('tell statistics')
    .option('--interval <duration>', 'between two lines', '5s')
    .option('--stats', 'once')
    .action(async (id: string, { interval, stats }: { interval: string; stats?: boolean }) => {
      const { followStats, statsEvent } = await import('./events.ts')
      if (!stats) onlySelf(context.caller)
      const tell = (event: object): void => context.caller.write(1, `${JSON.stringify(event)}\n`)
      if (stats) tell(statsEvent(place(id)))
      else await followStats(place(id), interval, tell)
    })
}

function changing(root: Command, context: Context, place: (id: string) => Place): void {
  root
    .command('pause <id>')
    .summary('freeze all processes')
    .action(async (id: string) => {
      const { pauseContainer } = await import('./pause.ts')
      await pauseContainer(place(id))
    })
  root
    .command('resume <id>')
    .summary('thaw')
    .action(async (id: string) => {
      const { resumeContainer } = await import('./pause.ts')
      await resumeContainer(place(id))
    })
  root
    .command('update <id>')
    .summary('change limits')
    .option('-r, --resources <file>', "JSON of the runtime-spec's form; - for stdin")
    .option('--blkio-weight <weight>', '10 to 1000')
    .option('--cpu-period <microseconds>', 'of the quota')
    .option('--cpu-quota <microseconds>', 'in a period; -1 for no limit')
    .option('--cpu-burst <microseconds>', 'saved up for later')
    .option('--cpu-share <shares>', 'relative to others')
    .option('--cpu-idle <0|1>', 'only what others leave')
    .option('--cpuset-cpus <list>', 'such as 0-3,7')
    .option('--cpuset-mems <list>', 'memory nodes')
    .option('--memory <bytes>', 'limit')
    .option('--memory-reservation <bytes>', 'low limit')
    .option('--memory-swap <bytes>', 'memory and swap together; -1 for no limit')
    .option('--pids-limit <n>', 'processes')
    .action(async (id: string, options: UpdateOptions & { resources?: string }) => {
      const { resourcesOf, updateContainer } = await import('./update.ts')
      const { resources: file } = options
      if (file === '-') onlySelf(context.caller)
      const changes =
        file === undefined
          ? resourcesOf(options)
          : asResources(
              file,
              file === '-'
                ? parseDocument('stdin', streamText(0, 'stdin'))
                : readDocument(context.caller.resolve(file)),
            )
      await updateContainer(place(id), changes, context.warn)
    })
}

function documents(root: Command, context: Context): void {
  root
    .command('spec')
    .summary('write a config.json to begin with')
    .option('-b, --bundle <directory>', 'where', '.')
    .action(async ({ bundle }: { bundle: string }) => {
      onlySelf(context.caller)
      const { exampleSpec } = await import('./spec.ts')
      const path = join(bundle, 'config.json')
      if (existsSync(path)) {
        throw new Fault('ALREADY_EXISTS', `file ${path} exists: remove it first`)
      }
      writeFileSync(path, `${JSON.stringify(exampleSpec(), undefined, 2)}\n`, {
        flag: 'wx',
        mode: 0o666,
      })
    })
  root
    .command('features')
    .summary('print what this runtime can do')
    .action(async () => {
      const { features } = await import('./features.ts')
      context.caller.write(1, `${JSON.stringify(features(), undefined, 2)}\n`)
    })
}
