import type { Command } from 'commander'
import { Fault } from '../base/fault.ts'
import type { Context } from './context.ts'
import { interruptible } from './interrupt.ts'
import { examples, option, refuse } from './output.ts'

interface Given {
  username?: string
  password?: string
  passwordStdin?: true
}

const plain = (text: string): string => text

export function define(command: Command, context: Context): void {
  command
    .argument('[server]', 'host of the registry, perhaps with a path below it', 'docker.io')
    .addOption(option('-u, --username <name>', 'asked for without', plain))
    .addOption(option('-p, --password <password>', 'others see it in the list of processes', plain))
    .option('--password-stdin', 'read the password from stdin')
    .addHelpText(
      'after',
      `\nThe registry is asked first. The login is kept where docker and podman look too: in ~/.docker/config.json, in the file that holds one\nfor the server already, in REGISTRY_AUTH_FILE where it is set, or in the helper that the file names.${examples(
        'berth login registry.example',
        'cat token | berth login -u me --password-stdin registry.example',
      )}`,
    )
    .action(async (server: string, given: Given) => {
      if (given.password !== undefined && given.passwordStdin) {
        throw new Fault(
          'INVALID_ARGUMENT',
          'options --password and --password-stdin exclude each other',
        )
      }
      if (given.passwordStdin && given.username === undefined) {
        throw new Fault('INVALID_ARGUMENT', 'option --password-stdin needs --username')
      }
      const { parseRegistry } = await import('../image/reference.ts')
      parseRegistry(server)
      const login = await loginOf(given)
      const { logIn } = await import('../image/login.ts')
      const done = await interruptible((signal) =>
        logIn(server, login, { signal, warn: context.warn }),
      )
      if (!done.isChecked) {
        context.warn(`${done.server} asks for no login: whether it is right is not known`)
      }
      if (done.isPlain) context.warn(`the password stands unencrypted in ${done.kept}`)
      await context.print(`logged in to ${done.server}\n`)
    })
  refuse(command, {
    '--get-login': 'berth shows no logins',
    '--authfile': 'set REGISTRY_AUTH_FILE',
    '--cert-dir': 'put the certificates into certs.d/HOST',
    '--tls-verify': 'set skip_verify in certs.d/HOST/hosts.toml',
  })
}

async function loginOf(given: Given): Promise<{ username: string; password: string }> {
  const { ask, readSecret } = await import('./ask.ts')
  const username =
    given.username ?? (await ask('Username: ', { hidden: false, instead: '--username' }))
  if (given.passwordStdin) return { username, password: await readSecret('the password') }
  const password =
    given.password ?? (await ask('Password: ', { hidden: true, instead: '--password-stdin' }))
  return { username, password }
}
