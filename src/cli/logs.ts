import type { Command } from 'commander'
import { Fault } from '../base/fault.ts'
import { isLoss } from '../engine/status.ts'
import type { ExitRecord } from '../engine/types.ts'
import type { Context } from './context.ts'
import type { LogLine } from './log-file.ts'
import { examples, option } from './output.ts'
import { parseInteger } from './parse/size.ts'
import { parseMoment } from './parse/time.ts'

interface Given {
  follow?: true
  timestamps?: true
  tail?: number | 'all'
  since?: bigint
  until?: bigint
}

/** Lines are joined up to this size before they are written: a system call a line would be most of the work. */
const BATCH_BYTES = 64 * 1024
/** No timer of Node is longer: 24 days. */
const TIMER_MS_MAX = 2 ** 31 - 1
const NEWLINE = Buffer.from('\n')

export function define(command: Command, context: Context): void {
  const moment = (text: string): bigint => parseMoment(text, Date.now())
  command
    .argument('<container>', 'name or id')
    .option('-f, --follow', 'go on until the container stops')
    .option('-t, --timestamps', 'with the time of each line')
    .addOption(
      option('-n, --tail <lines>', 'only the last lines, or all', (text) =>
        text === 'all' ? ('all' as const) : parseInteger(0, Number.MAX_SAFE_INTEGER)(text),
      ),
    )
    .addOption(option('--since <time>', 'a date, or 10m for ten minutes ago', moment))
    .addOption(option('--until <time>', 'a date, or 10m for ten minutes ago', moment))
    .addHelpText('after', examples('berth logs -f --tail 20 web', 'berth logs -t --since 10m web'))
    .action(async (name: string, given: Given) => {
      const { api, engine } = await context.open(async () => ({
        ...(await import('../engine/find.ts')),
        ...(await import('../engine/log.ts')),
        ...(await import('../engine/stop.ts')),
      }))
      const { record, status } = await api.findContainer(engine, name)
      const log = await api.containerLog(engine, record.id)
      if (!log) {
        throw new Fault(
          'FAILED_PRECONDITION',
          `container ${name} keeps no log: it was made with --log-driver none`,
        )
      }
      const { readLog } = await import('./log-file.ts')
      const alive = status.state === 'running' || status.state === 'paused'
      const late = new AbortController()
      const { signal } = late
      context.caller.onGone(() => late.abort())
      const end =
        given.follow && alive
          ? endOf(api.waitContainer(engine, record.id, signal), given.until)
          : undefined
      const lines = readLog(
        log.path,
        {
          tail: given.tail === 'all' ? undefined : given.tail,
          sinceNs: given.since,
          untilNs: given.until,
        },
        end,
      )
      try {
        await show(context, lines, given.timestamps === true, given.follow === true)
        const exit = await end
        if (exit !== undefined && isLoss(exit)) {
          throw new Fault('UNAVAILABLE', `container ${name} was lost: ${exit.error}`)
        }
      } finally {
        // The time of --until has come, or nobody reads: the end is waited for no longer.
        late.abort()
      }
    })
}

/** How the container has ended; undefined where it was removed meanwhile, or the time has come before. */
function endOf(
  stopped: Promise<ExitRecord>,
  untilNs: bigint | undefined,
): Promise<ExitRecord | undefined> {
  const known = stopped.catch(() => undefined)
  if (untilNs === undefined) return known
  const leftMs = Number(untilNs / 1_000_000n) - Date.now()
  const waitMs = Math.min(TIMER_MS_MAX, Math.max(0, leftMs))
  const time = new Promise<undefined>((resolve) => setTimeout(() => resolve(undefined), waitMs))
  return Promise.race([known, time])
}

async function show(
  context: Context,
  lines: AsyncIterable<LogLine>,
  timestamps: boolean,
  follow: boolean,
): Promise<void> {
  let batch: Buffer[] = []
  let bytes = 0
  let of: LogLine['stream'] = 'stdout'
  // Whether the next piece of a stream begins a line of the program.
  const atStart = { stdout: true, stderr: true }
  const flush = async (): Promise<void> => {
    if (bytes === 0) return
    const data = Buffer.concat(batch)
    batch = []
    bytes = 0
    await context.write(of, data)
  }
  for await (const line of lines) {
    if (line.stream !== of) await flush()
    of = line.stream
    const parts = [
      ...(timestamps && atStart[of] ? [Buffer.from(`${line.time} `)] : []),
      line.content,
      ...(line.partial ? [] : [NEWLINE]),
    ]
    atStart[of] = !line.partial
    for (const part of parts) {
      // A copy: the reader goes on in the same block.
      batch.push(Buffer.from(part))
      bytes += part.length
    }
    if (follow || bytes >= BATCH_BYTES) await flush()
  }
  await flush()
}
