import type { Command } from 'commander'
import type { EngineCheck } from '../engine/check.ts'
import type { Damage } from '../image/check.ts'
import type { Context } from './context.ts'
import { interruptible } from './interrupt.ts'
import { examples, type Format, formatOption, printJson } from './output.ts'
import { progressView } from './progress.ts'

interface Given {
  repair?: true
  pull?: true
  quiet?: true
  format: Format
}

export function define(command: Command, context: Context): void {
  command
    .option('--repair', 'repair from what is here; what a container uses is told and left')
    .option('--pull', 'with --repair: fetch again what cannot be repaired otherwise')
    .option('-q, --quiet', 'no progress')
    .addOption(formatOption())
    .addHelpText(
      'after',
      `\nReads all archives, layers and records of images. The exit code is 1 where damage stays.${examples('berth system check', 'berth system check --repair --pull')}`,
    )
    .action(async (given: Given) => {
      const { Fault } = await import('../base/fault.ts')
      if (given.pull && !given.repair) {
        throw new Fault('INVALID_ARGUMENT', 'option --pull is part of a repair: say --repair too')
      }
      const { api, engine } = await context.open(() => import('../engine/check.ts'))
      const view = progressView(given.quiet === true)
      try {
        const { repair = false, pull = false } = given
        const checked = await interruptible((signal) =>
          api.checkEngine(engine, { repair, pull, progress: view.report, signal }),
        )
        view.finish()
        if (checked.damage.some(({ isRepaired }) => !isRepaired)) context.exit(1)
        await (given.format === 'json' ? printJson(context, checked) : context.print(text(checked)))
      } finally {
        view.finish()
      }
    })
}

function text(checked: EngineCheck): string {
  const lines = checked.damage.map((each) => {
    const outcome = 'outcome' in each ? ` (${each.outcome})` : ''
    return `${each.isRepaired ? 'repaired' : 'damaged'}: ${subject(each.damage)}: ${each.damage.problem}${outcome}`
  })
  const { unverified, debris, images, blobs, layers, damage } = checked
  for (const hex of unverified) {
    lines.push(`not verified: layer ${hex.slice(0, 12)}: no archive of it is kept here`)
  }
  if (debris > 0) lines.push(`${debris} left over from work that was cut off: no damage`)
  const found = damage.length === 0 ? 'all is well' : `${damage.length} damaged`
  lines.push(`checked ${images} images, ${blobs} blobs, ${layers} layers: ${found}`)
  return lines.map((line) => `${line}\n`).join('')
}

function subject(damage: Damage): string {
  switch (damage.kind) {
    case 'blob':
      return `blob ${damage.digest}`
    case 'layer':
      return `layer ${damage.hex}`
    case 'fixup':
      return `layer of directories ${damage.hex}`
    case 'recipe':
      return `recipe of layer ${damage.diffId}`
    case 'catalog':
      return damage.file.path
    case 'image':
      return `image ${damage.id}`
    case 'container':
      return `layer ${damage.diffId}`
    case 'record':
      return "a container's record"
  }
}
