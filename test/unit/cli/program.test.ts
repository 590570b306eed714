import type { Command } from 'commander'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { Context } from '../../../src/cli/context.ts'
import { ownStdio } from '../../../src/cli/own-stdio.ts'
import { commandPaths, program, rootsOf } from '../../../src/cli/program.ts'
import { ownCaller } from '../../../src/kernel/caller.ts'

/** Nothing of the engine is there: whatever is told here is told before it is loaded. */
const context: Context = {
  caller: ownCaller(),
  stdio: ownStdio,
  roots: () => ({ root: '/r', state: '/s' }),
  open: () => {
    throw new Error('the engine was opened')
  },
  exit: () => {},
  warn: () => {},
  print: () => Promise.resolve(),
  write: () => Promise.resolve(),
}

/** Parses, and gives what was written to stdout and stderr, and the error. */
async function run(
  ...args: string[]
): Promise<{ out: string; err: string; error: Error | undefined }> {
  let out = ''
  let err = ''
  const root = await program(args, context, true)
  const capture = (command: Command): void => {
    command.configureOutput({
      writeOut: (text) => {
        out += text
      },
      writeErr: (text) => {
        err += text
      },
    })
    command.commands.forEach(capture)
  }
  capture(root)
  try {
    await root.parseAsync(args, { from: 'user' })
    return { out, err, error: undefined }
  } catch (error) {
    return { out, err, error: error as Error }
  }
}

for (const path of commandPaths()) {
  test(`berth ${path.join(' ')} --help tells what it does`, async () => {
    const { out } = await run(...path, '--help')
    assert.match(out, new RegExp(`^Usage: berth ${path.join(' ')}[| ]`))
    assert.match(out, /\n\n[A-Z].*\.\n\n/)
    assert.not.match(out, /default: \[\]/)
  })
}

test('the help lists every command', async () => {
  const { out } = await run('--help')
  for (const [name = ''] of commandPaths()) assert.match(out, new RegExp(`\n  ${name} +\\w`))
})

test('help COMMAND is COMMAND --help', async () => {
  assert.is((await run('help', 'ps')).out, (await run('ps', '--help')).out)
})

test('a command that is none gets a suggestion', async () => {
  assert.match((await run('exce')).err, /berth: unknown command 'exce'\n\(Did you mean exec\?\)/)
})

test('an option that is none gets a suggestion and the way to help', async () => {
  const { err } = await run('ps', '--quite')
  assert.match(
    err,
    /berth: unknown option '--quite'\n\(Did you mean --quiet\?\)\n+\(try: berth ps --help\)/,
  )
})

test('global options stand before the command, a command of the same name is not mistaken for their value', async () => {
  const { error } = await run('--root', 'ps', '--state', '/s', 'rm')
  assert.match(error?.message ?? '', /no container is named/)
})

test('options are judged before the engine is loaded', async () => {
  const { error } = await run('ps', '--filter', 'frob=1')
  assert.match(error?.message ?? '', /--filter frob=1: known keys/)
})

test('the roots are absolute', async () => {
  const root = await program(['ps'], context, true)
  root.setOptionValue('root', 'here')
  assert.throws(() => rootsOf(root, context.caller), /option --root: "here" is no absolute path/)
})

test.run()
