import type { Command } from 'commander'
import { Fault } from '../base/fault.ts'
import type { Context } from './context.ts'
import { openImages } from './image-store.ts'
import { examples, type Format, formatOption, option, printJson } from './output.ts'

interface Given {
  key?: string
  policy?: string
  platform?: string
  format: Format
}

const plain = (text: string): string => text

export function define(command: Command, context: Context): void {
  command
    .argument('<image>', 'name of an image at its registry')
    .addOption(option('--key <file>', "signer's public key, in PEM: of cosign, for example", plain))
    .addOption(option('--policy <file>', 'in place of /etc/berth/policy.json', plain))
    .addOption(option('--platform <os/arch>', 'of an image for several', plain))
    .addOption(formatOption())
    .addHelpText(
      'after',
      `\nSays by which signatures an image would be pulled; without --key as /etc/berth/policy.json asks.${examples(
        'berth image verify --key cosign.pub registry.example/team/app:1.0',
        'berth image verify registry.example/team/app:1.0',
      )}`,
    )
    .action(async (name: string, { key, policy, platform, format }: Given) => {
      if (key !== undefined && policy !== undefined) {
        throw new Fault('INVALID_ARGUMENT', 'options --key and --policy exclude each other')
      }
      const { store } = await openImages(context)
      const { resolve } = await import('node:path')
      const { verifyImage } = await import('../image/verify.ts')
      const verified = await verifyImage(store, name, {
        key: key === undefined ? undefined : resolve(key),
        policyFile: policy === undefined ? undefined : resolve(policy),
        platform,
      })
      if (format === 'json') return printJson(context, verified)
      const { signatures, digest } = verified
      const lines = signatures.map(
        (one) => `signed as ${JSON.stringify(one.identity)} with ${one.key}: ${one.digest}`,
      )
      if (lines.length === 0) lines.push('accepted: the policy asks for no signature')
      await context.print(`${[`${verified.name}: ${digest}`, ...lines].join('\n')}\n`)
    })
}
