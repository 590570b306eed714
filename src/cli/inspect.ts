import type { Command } from 'commander'
import { Fault } from '../base/fault.ts'
import type { Context } from './context.ts'
import { inspectImage } from './image-inspect.ts'
import { examples, formatOption, option, printJson } from './output.ts'

export function define(command: Command, context: Context): void {
  command
    .argument('<name...>', 'names or ids')
    .addOption(formatOption('json'))
    .addOption(option('--type <type>', 'container or image; both are looked for', parseType))
    .addHelpText('after', examples('berth inspect web', 'berth inspect web | jq .[0].State'))
    .action(async (names: string[], { type }: { type?: string }) => {
      const found: unknown[] = []
      for (const name of names) found.push(await inspectOne(context, name, type))
      await printJson(context, found)
    })
}

async function inspectOne(
  context: Context,
  name: string,
  type: string | undefined,
): Promise<unknown> {
  if (type === 'image') return inspectImage(context, name)
  const { api, engine } = await context.open(() => import('../engine/inspect.ts'))
  try {
    return await api.inspectContainer(engine, name)
  } catch (error) {
    const absent = error instanceof Fault && error.code === 'NOT_FOUND'
    if (!absent || type === 'container') throw error
  }
  try {
    return await inspectImage(context, name)
  } catch (error) {
    if (!(error instanceof Fault) || error.code !== 'NOT_FOUND') throw error
    throw new Fault('NOT_FOUND', `no container and no image is called ${name}`)
  }
}

function parseType(text: string): string {
  if (text === 'container' || text === 'image') return text
  throw new Fault('INVALID_ARGUMENT', `"${text}" is none of container, image`)
}
