import { RESIZE_BYTES_MAX } from './limits.ts'

export interface Size {
  readonly rows: number
  readonly columns: number
}

const SIDE_MAX = 65_535

/**
 * The sizes in a stream of JSON objects `{"Width":80,"Height":24}`, which may come in pieces or several at once. Ends at the first thing that is none, as
 * Kubernetes' own server does: the command goes on with the size it has. A side of 0 is a terminal that has no size yet.
 */
export async function* sizes(stream: AsyncIterable<Buffer>): AsyncGenerator<Size> {
  let text = ''
  for await (const data of stream) {
    text += data.toString('latin1')
    for (let end = text.indexOf('}'); end >= 0; end = text.indexOf('}')) {
      const size = parseSize(text.slice(0, end + 1))
      text = text.slice(end + 1)
      if (size === undefined) return
      if (size.rows > 0 && size.columns > 0) yield size
    }
    if (text.length > RESIZE_BYTES_MAX) return
  }
}

function parseSize(text: string): Size | undefined {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return undefined
  }
  if (typeof value !== 'object' || value === null) return undefined
  const sides: Record<string, unknown> = {}
  // Go takes names in any case, and some clients count on it.
  for (const [name, side] of Object.entries(value)) sides[name.toLowerCase()] = side
  const { width, height } = sides
  if (!isSide(width) || !isSide(height)) return undefined
  return { rows: height, columns: width }
}

function isSide(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= SIDE_MAX
}
