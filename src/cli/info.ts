import type { Command } from 'commander'
import { packageVersion } from '../engine/version.ts'
import type { Context } from './context.ts'
import { examples, type Format, formatOption, printJson } from './output.ts'
import { clean } from './table.ts'

export function define(command: Command, context: Context): void {
  command
    .addOption(formatOption())
    .addHelpText('after', examples('berth info', 'berth info --format json'))
    .action(async ({ format }: { format: Format }) => {
      const { api, engine } = await context.open(() => import('../engine/info.ts'))
      const info = { version: packageVersion(), ...(await api.engineInfo(engine)) }
      if (format === 'json') return printJson(context, info)
      await context.print(infoText(info, ''))
    })
}

/** A document as indented `key: value` lines; `cgroupDriver` reads "cgroup driver". */
export function infoText(value: Readonly<Record<string, unknown>>, indent: string): string {
  return Object.entries(value)
    .map(([key, each]) => {
      const title = `${indent}${key.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`)}:`
      if (Array.isArray(each)) return `${title} ${clean(each.map(plain).join(', ')) || 'none'}\n`
      if (typeof each === 'object' && each !== null) {
        return `${title}\n${infoText(each as Record<string, unknown>, `${indent}  `)}`
      }
      return `${title} ${plain(each)}\n`
    })
    .join('')
}

function plain(value: unknown): string {
  if (typeof value === 'object') return JSON.stringify(value)
  return clean(String(value))
}
