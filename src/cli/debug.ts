import { request } from 'node:http'
import { type Command, Option } from 'commander'
import { Fault, isErrno } from '../base/fault.ts'
import type { DebugReport } from '../cri/debug.ts'
import type { Context } from './context.ts'
import { infoText } from './info.ts'
import { examples, type Format, formatOption, printJson } from './output.ts'
import { humanBytes, table } from './table.ts'

const ANSWER_BYTES_MAX = 64 * 1024 * 1024
const ANSWER_TIMEOUT_MS = 10_000

export function define(command: Command, context: Context): void {
  command
    .addOption(formatOption())
    .addOption(
      new Option('--log-level <level>', 'change it: debug, info, warn or error, until a reload'),
    )
    .addHelpText(
      'after',
      `\nWhat berth serve is doing: its calls in flight with their stages, its pods, its event loop and memory.\n${examples(
        'berth debug',
        'berth debug --log-level debug',
        'berth debug --format json',
      )}`,
    )
    .action(async ({ format, logLevel }: { format: Format; logLevel?: string }) => {
      const { debugSocket } = await import('../cri/address.ts')
      const socket = debugSocket(context.roots().state)
      if (logLevel !== undefined) {
        const { level } = (await ask(
          socket,
          'PUT',
          `/log?level=${encodeURIComponent(logLevel)}`,
        )) as { level: string }
        return context.print(`log level: ${level}\n`)
      }
      const report = (await ask(socket, 'GET', '/report')) as DebugReport
      if (format === 'json') return printJson(context, report)
      await context.print(reportText(report))
    })
}

/** The JSON of an answer. UNAVAILABLE where no daemon is there. */
function ask(socketPath: string, method: string, path: string): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const lost = (error: Error): void =>
      reject(
        isErrno(error, 'ENOENT', 'ECONNREFUSED')
          ? new Fault('UNAVAILABLE', `no berth serve at ${socketPath}: it does not run`)
          : isErrno(error, 'EACCES', 'EPERM')
            ? new Fault('PERMISSION_DENIED', `${socketPath} is for root (try sudo)`)
            : new Fault('UNAVAILABLE', `berth serve at ${socketPath}`, { cause: error }),
      )
    const sent = request(
      { socketPath, method, path, signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS), agent: false },
      (response) => {
        const parts: Buffer[] = []
        let size = 0
        response.on('error', lost)
        response.on('data', (part: Buffer) => {
          parts.push(part)
          size += part.length
          if (size > ANSWER_BYTES_MAX) response.destroy(new Error('its answer is too long'))
        })
        response.on('end', () => {
          const text = Buffer.concat(parts).toString()
          if (response.statusCode === 200) return resolve(JSON.parse(text))
          reject(new Fault('INVALID_ARGUMENT', `berth serve says: ${text.trim()}`))
        })
      },
    )
    sent.on('error', lost)
    sent.end()
  })
}

/** The report for people: calls first, since they are what one looks for. */
function reportText(report: DebugReport): string {
  const { operations, eventLoop, memory, configuration, version, node, pid, uptimeMs } = report
  const calls = table(
    [
      { title: 'OP', cell: ({ id }) => id },
      { title: 'CALL', cell: ({ method }) => method },
      { title: 'AGE', cell: ({ ms }) => seconds(ms), right: true },
      { title: 'STAGE', cell: ({ stages }) => stages.at(-1)?.name ?? '' },
      { title: 'SINCE', cell: ({ stages, ms }) => seconds(stages.at(-1)?.ms ?? ms), right: true },
      { title: 'SUBJECT', cell: ({ subject }) => subject },
    ],
    operations,
  )
  const changed = configuration.filter(
    ({ origin }) => origin !== 'default' && !origin.startsWith('as in '),
  )
  return [
    `berth ${version}, pid ${pid}, node ${node}, up ${seconds(uptimeMs)}\n\n`,
    operations.length === 0 ? 'No call in flight.\n' : calls,
    '\n',
    infoText(
      {
        ...report.summary,
        eventLoop: `${eventLoop.busyPercent} % busy; delay p50 ${eventLoop.p50Ms} ms, p99 ${eventLoop.p99Ms} ms, max ${eventLoop.maxMs} ms in ${seconds(eventLoop.sinceMs)}`,
        memory: `${humanBytes(memory.residentBytes)} resident; heap ${humanBytes(memory.heapUsedBytes)} of ${humanBytes(memory.heapTotalBytes)}, ${humanBytes(memory.externalBytes)} outside`,
        waitingFor: Object.entries(report.resources)
          .map(([name, count]) => `${count} ${name}`)
          .join(', '),
        log: `level ${report.log.level}, ${report.log.dropped} lines dropped`,
        ...(changed.length > 0 && {
          configuration: Object.fromEntries(
            changed.map(({ key, value, origin }) => [key, `${JSON.stringify(value)} (${origin})`]),
          ),
        }),
      },
      '',
    ),
  ].join('')
}

function seconds(ms: number): string {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`
}
