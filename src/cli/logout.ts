import type { Command } from 'commander'
import type { Context } from './context.ts'
import { examples, refuse } from './output.ts'

export function define(command: Command, context: Context): void {
  command
    .argument('[server]', 'host of the registry, perhaps with a path below it', 'docker.io')
    .addHelpText(
      'after',
      `\nTakes the login from every file and helper where docker, podman and berth look for it.${examples('berth logout registry.example')}`,
    )
    .action(async (server: string) => {
      const { logOut } = await import('../image/login.ts')
      const from = await logOut(server)
      if (from.length === 0) context.warn(`there was no login for ${server}`)
      for (const place of from) await context.print(`forgotten in ${place}\n`)
    })
  refuse(command, {
    '-a, --all': 'name each registry',
    '--authfile': 'set REGISTRY_AUTH_FILE',
  })
}
