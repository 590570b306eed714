import type { Command } from 'commander'
import type { Context } from './context.ts'
import { interruptible } from './interrupt.ts'
import { examples, option, printJson, refuse } from './output.ts'
import { parseCredentials } from './parse/credentials.ts'

interface Given {
  platform?: string
  raw?: true
  creds?: ReturnType<typeof parseCredentials>
}

const plain = (text: string): string => text

export function define(command: Command, context: Context): void {
  command
    .argument('<image>', 'name at a registry')
    .addOption(option('--platform <os/arch>', 'the manifest that an index has for it', plain))
    .option('--raw', 'the bytes as they are: their sha256 is the digest')
    .addOption(
      option('--creds <user:password>', 'in place of the login kept here', parseCredentials),
    )
    .addHelpText(
      'after',
      `\nAsks the registry and prints JSON. Nothing is stored.${examples(
        'berth manifest inspect debian',
        'berth manifest inspect --raw 127.0.0.1:5000/app:1 | sha256sum',
      )}`,
    )
    .action(async (name: string, { platform, raw, creds }: Given) => {
      const { remoteManifest } = await import('../image/remote-manifest.ts')
      const { bytes } = await interruptible((signal) =>
        remoteManifest(name, { platform, credentials: creds, signal, warn: context.warn }),
      )
      await (raw ? context.print(bytes) : printJson(context, JSON.parse(bytes.toString('utf8'))))
    })
  refuse(command, {
    '-v, --verbose': 'inspect each manifest of an index by its digest, or with --platform',
    '--insecure': 'set skip_verify or an http:// address in certs.d/HOST/hosts.toml',
    '--tls-verify': 'set skip_verify in certs.d/HOST/hosts.toml',
    '--authfile': 'set REGISTRY_AUTH_FILE',
  })
}
