import type { Command } from 'commander'
import type { Pulled } from '../image/pull.ts'
import type { ImageStore } from '../image/store.ts'
import type { Context } from './context.ts'
import { openImages } from './image-store.ts'
import { interruptible } from './interrupt.ts'
import { examples, type Format, formatOption, option, printJson, refuse } from './output.ts'
import { parseCredentials } from './parse/credentials.ts'
import { progressView } from './progress.ts'

interface Given {
  allTags?: true
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
    .option(
      '-a, --all-tags',
      'all tags of a repository; what is no image for this host is told and left',
    )
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
      `\nMirrors and plain HTTP are configured in certs.d/HOST/hosts.toml, as for containerd, or in registries.conf, as for podman; which images must be signed in\n/etc/berth/policy.json, as for podman.${examples('berth pull debian', 'berth pull --all-tags registry.example/team/app', 'berth pull --platform linux/arm64 127.0.0.1:5000/app:1')}`,
    )
    .action(async (name: string, given: Given) => {
      const { store, changed } = await openImages(context)
      const { pullImage } = await import('../image/pull.ts')
      const view = progressView(given.quiet === true)
      const pulled: Pulled[] = []
      const pull = async (each: string, signal: AbortSignal): Promise<void> => {
        const one = await pullImage(store, each, {
          platform: given.platform,
          policyFile: given.signaturePolicy,
          blobs: given.blobs === true,
          credentials: given.creds,
          progress: view.report,
          signal,
        })
        pulled.push(one)
        view.finish()
        await changed('pull', one.id, one.name)
        if (given.format !== 'json') await context.print(`${one.id}\n`)
      }
      try {
        await interruptible(async (signal) => {
          if (given.allTags) await pullAllTags(context, store, name, { given, pull, signal })
          else await pull(name, signal)
          if (given.blobs !== false) return
          const { dropBlobs } = await import('../image/drop-blobs.ts')
          await dropBlobs(store, { images: pulled.map(({ id }) => id), wait: true, signal })
        })
      } finally {
        view.finish()
        const isAny = given.allTags === true || pulled.length > 0
        if (given.format === 'json' && isAny)
          await printJson(context, given.allTags ? pulled : pulled[0])
      }
    })
  refuse(command, {
    '--disable-content-trust':
      'digests are always verified; write the signatures that you ask for into /etc/berth/policy.json',
    '--tls-verify': 'set skip_verify in certs.d/HOST/hosts.toml',
    '--authfile': 'set REGISTRY_AUTH_FILE',
    '--cert-dir': 'put the certificates into certs.d/HOST',
  })
}

/** One tag that cannot be pulled does not keep the others; what is no image, such as the tag of a signature, is no failure. */
async function pullAllTags(
  context: Context,
  store: ImageStore,
  name: string,
  work: {
    given: Given
    pull: (name: string, signal: AbortSignal) => Promise<void>
    signal: AbortSignal
  },
): Promise<void> {
  const { describe, Fault } = await import('../base/fault.ts')
  const { namesOfAllTags } = await import('../image/all-tags.ts')
  const { given, signal } = work
  const options = { credentials: given.creds, signal }
  const failures: unknown[] = []
  for (const each of await namesOfAllTags(store, name, options)) {
    try {
      await work.pull(each, signal)
    } catch (error) {
      signal.throwIfAborted()
      if (error instanceof Fault && error.code === 'UNIMPLEMENTED') {
        context.warn(`${each} is left out: ${describe(error)}`)
      } else failures.push(error)
    }
  }
  for (const failure of failures.slice(0, -1)) context.warn(describe(failure))
  if (failures.length > 0) throw failures.at(-1)
}
