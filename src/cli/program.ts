import { Command, Help, Option } from 'commander'
import { Fault, harmless } from '../base/fault.ts'
import type { Roots } from '../engine/types.ts'
import type { Caller } from '../kernel/caller.ts'
import type { Context } from './context.ts'

/** What a command's file exports: adds arguments, options and the action. */
interface CommandFile {
  define(command: Command, context: Context): void
}

interface Entry {
  readonly name: string
  readonly aliases?: readonly string[]
  readonly summary: string
  readonly load: () => Promise<CommandFile>
}

interface Group {
  readonly name: string
  readonly summary: string
  readonly entries: readonly Entry[]
}

const entry = (names: string, summary: string, load: () => Promise<CommandFile>): Entry => {
  const [name = '', ...aliases] = names.split(' ')
  return { name, aliases, summary, load }
}

const attach = entry('attach', 'connect to a running container', () => import('./attach.ts'))
const commit = entry(
  'commit',
  "make an image of a container's changes",
  () => import('./commit.ts'),
)
const copy = entry('cp', 'copy files from or to a container', () => import('./cp.ts'))
const create = entry('create', 'make a container, do not start it', () => import('./create.ts'))
const diff = entry('diff', 'what a container has changed in its files', () => import('./diff.ts'))
const exec = entry('exec', 'run a further program in a container', () => import('./exec.ts'))
const exportRoot = entry('export', "a container's root as a tar", () => import('./export.ts'))
const inspect = entry('inspect', 'all about containers or images', () => import('./inspect.ts'))
const kill = entry('kill', 'send a signal', () => import('./kill.ts'))
const logs = entry('logs', 'what a container has written', () => import('./logs.ts'))
const pause = entry('pause', 'freeze all processes', () => import('./pause.ts'))
const list = entry('ps', 'list containers', () => import('./ps.ts'))
const rename = entry('rename', 'give a container another name', () => import('./rename.ts'))
const restart = entry('restart', 'stop and start', () => import('./restart.ts'))
const remove = entry('rm', 'remove containers', () => import('./rm.ts'))
const run = entry('run', 'make a container and run it', () => import('./run.ts'))
const start = entry('start', 'start a container', () => import('./start.ts'))
const stats = entry('stats', 'what containers use', () => import('./stats.ts'))
const stop = entry('stop', 'ask to stop, then kill', () => import('./stop.ts'))
const top = entry('top', 'processes of a container', () => import('./top.ts'))
const unpause = entry('unpause', 'thaw', () => import('./unpause.ts'))
const update = entry('update', 'change limits', () => import('./update.ts'))
const wait = entry('wait', 'wait for the end, print exit codes', () => import('./wait.ts'))
const build = entry('build', 'make an image as a Dockerfile says', () => import('./build.ts'))
const images = entry('images', 'list images', () => import('./images.ts'))
const importImage = entry(
  'import',
  'make an image of a root file system',
  () => import('./import.ts'),
)
const history = entry('history', 'how an image was made', () => import('./history.ts'))
const load = entry('load', 'read images from an archive', () => import('./load.ts'))
const pull = entry('pull', 'fetch an image from a registry', () => import('./pull.ts'))
const push = entry('push', 'send an image to a registry', () => import('./push.ts'))
const removeImage = entry('rmi', 'remove images', () => import('./rmi.ts'))
const save = entry('save', 'write images to an archive', () => import('./save.ts'))
const tag = entry('tag', 'give an image a further name', () => import('./tag.ts'))
const login = entry('login', 'keep a login for a registry', () => import('./login.ts'))
const logout = entry('logout', 'forget a login for a registry', () => import('./logout.ts'))
const events = entry('events', 'what happens, as it happens', () => import('./events.ts'))
const info = entry('info', 'about this berth and its host', () => import('./info.ts'))
const config = entry('config', 'the configuration of the daemon', () => import('./config.ts'))
const serve = entry('serve', 'answer the CRI: the runtime of a kubelet', () => import('./serve.ts'))
const oci = entry('oci', 'an OCI runtime, with the command line of runc', () => import('./oci.ts'))
const pods = entry('pods', 'list pods and their containers', () => import('./pods.ts'))
const debug = entry('debug', 'what the running daemon is doing', () => import('./debug.ts'))
const version = entry('version', 'versions', () => import('./version.ts'))

const as = (names: string, other: Entry, summary = other.summary): Entry => {
  const [name = '', ...aliases] = names.split(' ')
  return { ...other, name, aliases, summary }
}

/** The whole command line, in the order of the help. */
const COMMANDS: readonly { title: string; entries: readonly (Entry | Group)[] }[] = [
  {
    title: 'Containers:',
    entries: [
      run,
      create,
      start,
      stop,
      restart,
      kill,
      remove,
      list,
      logs,
      exec,
      attach,
      wait,
      inspect,
      stats,
      top,
      pause,
      unpause,
      update,
      copy,
      diff,
      commit,
      exportRoot,
      rename,
    ],
  },
  {
    title: 'Images:',
    entries: [images, build, pull, push, load, save, importImage, tag, history, removeImage],
  },
  {
    title: 'Machine:',
    entries: [
      login,
      logout,
      events,
      info,
      version,
      serve,
      config,
      debug,
      pods,
      oci,
      {
        name: 'container',
        summary: 'the commands for containers, and prune',
        entries: [
          attach,
          entry(
            'cleanup',
            'what a monitor runs after its container',
            () => import('./container-cleanup.ts'),
          ),
          entry(
            'rejoin',
            'what berth-front runs when the daemon has ended',
            () => import('./container-rejoin.ts'),
          ),
          commit,
          copy,
          create,
          diff,
          exec,
          exportRoot,
          as('inspect', inspect),
          kill,
          as('ls list ps', list),
          logs,
          pause,
          entry('prune', 'remove stopped containers', () => import('./container-prune.ts')),
          rename,
          restart,
          remove,
          run,
          start,
          stats,
          stop,
          top,
          unpause,
          update,
          wait,
        ],
      },
      {
        name: 'image',
        summary: 'the commands for images, and prune',
        entries: [
          as('ls list', images),
          entry('inspect', 'all about images', () => import('./image-inspect.ts')),
          entry('mount', "see an image's files on the host", () => import('./image-mount.ts')),
          entry('unmount umount', 'take a mounted image away', () => import('./image-unmount.ts')),
          entry('prune', 'remove unused images', () => import('./image-prune.ts')),
          entry('verify', 'is it signed as the policy asks', () => import('./image-verify.ts')),
          build,
          pull,
          push,
          load,
          save,
          importImage,
          tag,
          history,
          as('rm remove', removeImage),
        ],
      },
      {
        name: 'manifest',
        summary: 'what a name stands for at its registry',
        entries: [
          entry(
            'inspect',
            'show an index or manifest of a registry',
            () => import('./manifest-inspect.ts'),
          ),
        ],
      },
      {
        name: 'volume',
        summary: 'volumes',
        entries: [
          entry('ls list', 'list volumes', () => import('./volume-ls.ts')),
          entry('create', 'make a volume', () => import('./volume-create.ts')),
          entry('inspect', 'all about volumes', () => import('./volume-inspect.ts')),
          entry('rm remove', 'remove volumes', () => import('./volume-rm.ts')),
          entry('prune', 'remove unused volumes', () => import('./volume-prune.ts')),
        ],
      },
      {
        name: 'network',
        summary: 'networks',
        entries: [
          entry('ls list', 'list networks', () => import('./network-ls.ts')),
          entry('inspect', "a network's configuration", () => import('./network-inspect.ts')),
        ],
      },
      {
        name: 'system',
        summary: 'the whole',
        entries: [
          entry('check', 'verify what is stored', () => import('./system-check.ts')),
          entry('df', 'what is on the disk, and what could go', () => import('./system-df.ts')),
          entry('prune', 'remove what is not used', () => import('./system-prune.ts')),
          info,
          events,
        ],
      },
    ],
  },
]

/** Where berth's files are, if neither an option nor the caller's environment says it. */
const PLACES = { root: '/var/lib/berth', state: '/run/berth' }

/**
 * The command tree for these arguments (without node and script). Only the called command is made and its file loaded: most of
 * the time that a command takes is the loading of code. The context is looked at when the command is called; `isOwn`: that is by this process itself.
 */
export async function program(
  args: readonly string[],
  context: Context,
  isOwn: boolean,
): Promise<Command> {
  const root = new Command('berth')
    .description('Runs containers on this machine.')
    .usage('[options] COMMAND …')
    .addOption(placeOption('root', 'what survives a reboot', isOwn))
    .addOption(placeOption('state', 'what does not', isOwn))
    .option('--debug', 'tell where in berth an error comes from')
    .option('-V, --version', 'print the version')
    .helpOption('-h, --help', 'this text')
    .helpCommand('help [command]', "a command's options and examples")
    .enablePositionalOptions()
    .exitOverride()
    .configureOutput({
      writeOut: (text) => context.stdio.put('stdout', text),
      writeErr: (text) => context.stdio.put('stderr', text),
      getOutHelpWidth: () => helpWidth(context, 'stdout'),
      getErrHelpWidth: () => helpWidth(context, 'stderr'),
      outputError: (text, write) => write(harmless(text.replace(/^error: /, 'berth: '))),
    })
    .configureHelp({ optionDescription })
    .addHelpText('after', '\nMore about a command: berth COMMAND --help')
  const [name, sub] = calledPath(args)
  const wanted = COMMANDS.map(({ title, entries }) => ({
    title,
    entries: entries.filter((each) => called(each, name)),
  }))
  // Without a known command the help, or a suggestion, needs them all.
  const known = wanted.some(({ entries }) => entries.length > 0)
  for (const { title, entries } of known ? wanted : COMMANDS) {
    for (const each of entries) {
      const made = 'load' in each ? stub(root, each) : groupCommand(root, each)
      made.helpGroup(title)
      if (!known) continue
      if ('load' in each) await define(made, each, context)
      else await groupEntries(made, each, sub, context)
    }
  }
  return root
}

/** --root or --state. commander looks for BERTH_ROOT and BERTH_STATE in this process's environment; the help that tells of it is never a daemon's. */
function placeOption(name: keyof Roots, about: string, isOwn: boolean): Option {
  const option = new Option(`--${name} <directory>`, about)
  return isOwn ? option.default(PLACES[name]).env(placeVariable(name)) : option
}

function placeVariable(name: keyof Roots): string {
  return `BERTH_${name.toUpperCase()}`
}

/** commander's own is that of a terminal, or 80. */
function helpWidth({ stdio }: Context, of: 'stdout' | 'stderr'): number {
  const { columns } = stdio.size()
  return stdio.isTerminal(of) && columns > 0 ? columns : 80
}

const standard = new Help()

/** commander tells an empty list as the default of what may be repeated. */
function optionDescription(option: Option): string {
  return standard.optionDescription(option).replace(/ ?\(default: \[\]\)$/, '')
}

/** Every command as it is called: `['run']`, `['image', 'ls']`. */
export function commandPaths(): string[][] {
  return COMMANDS.flatMap(({ entries }) =>
    entries.flatMap((each) =>
      'load' in each ? [[each.name]] : each.entries.map((sub) => [each.name, sub.name]),
    ),
  )
}

function groupCommand(root: Command, group: Group): Command {
  return root
    .command(group.name)
    .summary(group.summary)
    .description(group.summary)
    .usage('COMMAND …')
    .helpCommand(false)
}

async function groupEntries(
  made: Command,
  group: Group,
  name: string | undefined,
  context: Context,
): Promise<void> {
  for (const each of group.entries) {
    const sub = stub(made, each)
    if (called(each, name)) await define(sub, each, context)
  }
}

function stub(parent: Command, each: Entry): Command {
  return parent
    .command(each.name)
    .aliases([...(each.aliases ?? [])])
    .summary(each.summary)
}

async function define(command: Command, each: Entry, context: Context): Promise<void> {
  const file = await each.load()
  command.description(`${each.summary[0]?.toUpperCase()}${each.summary.slice(1)}.`)
  command.showHelpAfterError(`(try: ${commandPath(command)} --help)`)
  file.define(command, context)
}

function commandPath(command: Command): string {
  return command.parent ? `${commandPath(command.parent)} ${command.name()}` : command.name()
}

function called(each: Entry | Group, name: string | undefined): boolean {
  return each.name === name || ('load' in each && (each.aliases ?? []).includes(name ?? ''))
}

/** What a daemon does for its callers: the commands that take much less time than the start of Node, and hold up no others. */
const SERVED: readonly Entry[] = [
  run,
  create,
  start,
  stop,
  restart,
  kill,
  remove,
  list,
  logs,
  exec,
  attach,
  wait,
  inspect,
  stats,
  top,
  pause,
  unpause,
  update,
  rename,
  images,
]

/** Whether these arguments, without node and script, are a command's that a daemon does. */
export function isServed(args: readonly string[]): boolean {
  const [name, sub] = calledPath(args)
  if (args.includes('--debug')) return false
  const isCalled = (word: string | undefined) => SERVED.some((each) => called(each, word))
  if (name === 'image') return sub === 'ls' || sub === 'list'
  return isCalled(name === 'container' ? sub : name)
}

/** The words of the command, and of a group its subcommand: arguments with the same ones have the same tree. */
export function commandWords(args: readonly string[]): string[] {
  const [name, sub] = calledPath(args)
  const isGroup = COMMANDS.some(({ entries }) =>
    entries.some((each) => each.name === name && !('load' in each)),
  )
  return [name, isGroup ? sub : undefined].filter((word) => word !== undefined)
}

/** The first words that are no options: the command, and a group's subcommand. */
function calledPath(args: readonly string[]): string[] {
  const words: string[] = []
  for (let i = 0; i < args.length && words.length < 3; i++) {
    const arg = args[i] ?? ''
    if (arg === '--root' || arg === '--state') i++
    else if (!arg.startsWith('-')) words.push(arg)
  }
  return words[0] === 'help' ? words.slice(1) : words
}

/** The directories of the global options, or of the caller's environment. Not absolute would mean another berth in every working directory. */
export function rootsOf(command: Command, { env }: Pick<Caller, 'env'>): Roots {
  const given = command.opts<Partial<Roots>>()
  const place = (name: keyof Roots): string =>
    given[name] ?? env[placeVariable(name)] ?? PLACES[name]
  const { root, state } = { root: place('root'), state: place('state') }
  for (const [name, path] of Object.entries({ root, state })) {
    if (!path.startsWith('/')) {
      throw new Fault('INVALID_ARGUMENT', `option --${name}: "${path}" is no absolute path`)
    }
  }
  return { root, state }
}
