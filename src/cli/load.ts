import { addAbortSignal, type Readable } from 'node:stream'
import type { Command } from 'commander'
import { Fault } from '../base/fault.ts'
import type { Context } from './context.ts'
import { openImages } from './image-store.ts'
import { interruptible } from './interrupt.ts'
import { examples, type Format, formatOption, option, printJson } from './output.ts'
import { progressView } from './progress.ts'

const plain = (text: string): string => text

interface Given {
  input?: string
  name?: string
  platform?: string
  signaturePolicy?: string
  quiet?: true
  format: Format
}

export function define(command: Command, context: Context): void {
  command
    .addOption(
      option('-i, --input <file>', 'archive, or folder with an OCI layout; stdin without', plain),
    )
    .addOption(
      option('--name <name>', 'for an archive of one image, in place of its own names', plain),
    )
    .addOption(option('--platform <os/arch>', 'of an image for several', plain))
    .option('--signature-policy <file>', 'in place of /etc/berth/policy.json')
    .option('-q, --quiet', 'no progress')
    .addOption(formatOption())
    .addHelpText(
      'after',
      `\nTakes what docker save, podman save, skopeo copy and buildah push write, plain or compressed. What policy.json says of docker-archive, oci-archive and oci counts, as for podman:\nan archive carries no signature.${examples('docker save debian | berth load', 'berth load -i image.tar', 'berth load -i layout/ --name app:1')}`,
    )
    .action(async (given: Given) => {
      const source = given.input === undefined ? stdin('the archive') : given.input
      const { store, familiar, changed } = await openImages(context)
      const { loadArchive } = await import('../image/load.ts')
      const { readPolicy } = await import('../image/policy.ts')
      const policy = readPolicy(given.signaturePolicy)
      const view = progressView(given.quiet === true)
      try {
        const loaded = await interruptible((signal) =>
          loadArchive(store, calledOff(source, signal), {
            name: given.name,
            platform: given.platform,
            policy,
            progress: view.report,
            signal,
          }),
        )
        view.finish()
        for (const { id, names } of loaded) await changed('load', id, names[0] ?? id)
        if (given.format === 'json') return await printJson(context, loaded)
        for (const { id, names } of loaded) {
          const named = names.length > 0 ? names.map(familiar) : [id]
          await context.print(named.map((name) => `Loaded: ${name}\n`).join(''))
        }
      } finally {
        view.finish()
      }
    })
}

/** Our stdin as a source of bytes; a person's keyboard is none. */
export function stdin(what: string): Readable {
  if (!process.stdin.isTTY) return process.stdin
  throw new Fault('INVALID_ARGUMENT', `${what} is missing: name a file, or pipe it in`)
}

/** The same source, of which a stream ends with an error at the signal: its writer may say nothing for ever. */
export function calledOff(source: string | Readable, signal: AbortSignal): string | Readable {
  return typeof source === 'string' ? source : addAbortSignal(signal, source)
}
