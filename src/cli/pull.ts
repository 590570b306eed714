import type { Command } from 'commander'
import { type Context, print } from './context.ts'
import { openImages } from './image-store.ts'
import { interruptible } from './interrupt.ts'
import { examples, type Format, formatOption, option, printJson, refuse } from './output.ts'
import { parseCredentials } from './parse/credentials.ts'
import { progressView } from './progress.ts'

interface Given {
  platform?: string
  blobs?: boolean
  signaturePolicy?: string
  creds?: ReturnType<typeof parseCredentials>
  quiet?: true
  format: Format
}

const plain = (text: string): string => text

export function define(command: Command, context: Context): void {
  command
    .argument('<image>', 'name, such as debian or registry.example/team/app:1.0')
    .addOption(option('--platform <os/arch>', 'of an image for several', plain))
    .option(
      '--blobs',
      'fetch also the archives of layers that are here unpacked, to push or save the image exactly',
    )
    .option('--signature-policy <file>', 'in place of /etc/berth/policy.json')
    .addOption(
      option('--creds <user:password>', 'in place of the login kept here', parseCredentials),
    )
    .option('--no-blobs', 'keep no archives of layers once these are unpacked')
    .option('-q, --quiet', 'no progress')
    .addOption(formatOption())
    .addHelpText(
      'after',
      `\nMirrors and plain HTTP are configured in certs.d/HOST/hosts.toml, as for containerd, or in registries.conf, as for podman; which images must be signed in\n/etc/berth/policy.json, as for podman.${examples('berth pull debian', 'berth pull --platform linux/arm64 127.0.0.1:5000/app:1')}`,
    )
    .action(async (name: string, given: Given) => {
      const { store, changed } = await openImages(context)
      const { pullImage } = await import('../image/pull.ts')
      const view = progressView(given.quiet === true)
      try {
        const pulled = await interruptible((signal) =>
          pullImage(store, name, {
            platform: given.platform,
            policyFile: given.signaturePolicy,
            blobs: given.blobs === true,
            credentials: given.creds,
            progress: view.report,
            signal,
          }),
        )
        view.finish()
        await changed('pull', pulled.id, pulled.name)
        if (given.blobs === false) {
          const { dropBlobs } = await import('../image/drop-blobs.ts')
          await interruptible((signal) =>
            dropBlobs(store, { images: [pulled.id], wait: true, signal }),
          )
        }
        await (given.format === 'json' ? printJson(pulled) : print(`${pulled.id}\n`))
      } finally {
        view.finish()
      }
    })
  refuse(command, {
    '-a, --all-tags': 'name each tag',
    '--disable-content-trust':
      'digests are always verified; write the signatures that you ask for into /etc/berth/policy.json',
    '--tls-verify': 'set skip_verify in certs.d/HOST/hosts.toml',
    '--authfile': 'set REGISTRY_AUTH_FILE',
    '--cert-dir': 'put the certificates into certs.d/HOST',
  })
}
