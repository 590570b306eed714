import { Fault } from '../base/fault.ts'
import { BLOCK, damaged, number, type PaxRecord, paxNumber } from './tar-header.ts'

/** One run of data in a file with holes. */
export interface SparsePiece {
  readonly offset: number
  readonly length: number
}

/** Refuses a map that is unsorted, overlaps, leaves the file or disagrees with the content's size. */
export function checkSparse(
  pieces: readonly SparsePiece[],
  file: { realSize: number; dataSize: number; max: number },
): void {
  if (pieces.length > file.max) throw tooMany(file.max)
  let end = 0
  let total = 0
  for (const { offset, length } of pieces) {
    if (offset < end) throw damaged('a sparse map has pieces that overlap')
    end = offset + length
    total += length
    if (end > file.realSize) throw damaged('a sparse map leads beyond the end of its file')
  }
  if (total !== file.dataSize) throw damaged('a sparse map does not fit the size of its content')
}

function tooMany(max: number): Fault {
  return new Fault(
    'RESOURCE_EXHAUSTED',
    `the archive is refused: a sparse file has more than ${max} pieces`,
  )
}

/** The map in an old GNU header (4 pieces), or in one of the blocks that follow it (21 pieces). */
export function oldSparse(
  block: Buffer,
  isExtension = false,
): { pieces: SparsePiece[]; extended: boolean; realSize: number } {
  const start = isExtension ? 0 : 386
  const count = isExtension ? 21 : 4
  const pieces: SparsePiece[] = []
  for (let i = 0; i < count; i++) {
    const at = start + i * 24
    // An empty field ends the list.
    if (block[at] === 0 && block[at + 12] === 0) break
    pieces.push(piece(number(block, at, 12, 'sparse'), number(block, at + 12, 12, 'sparse')))
  }
  return {
    pieces,
    extended: block[isExtension ? 504 : 482] !== 0,
    realSize: isExtension ? 0 : number(block, 483, 12, 'realsize'),
  }
}

function piece(offset: number | undefined, length: number | undefined): SparsePiece {
  if (offset === undefined || length === undefined || offset < 0 || length < 0) {
    throw damaged('a sparse map has a piece that is no range')
  }
  if (!Number.isSafeInteger(offset + length)) throw damaged('a sparse map is out of range')
  return { offset, length }
}

/**
 * The sparse file that PAX records describe: GNU versions 0.0 (a record a number), 0.1 (one record) and 1.0 (the map is at the start of
 * the content). Undefined for a file without holes.
 */
export function paxSparse(
  records: readonly PaxRecord[],
  max: number,
): { map: '1.0' | SparsePiece[]; realSize: number; name?: Buffer } | undefined {
  let version = ''
  let realSize: number | undefined
  let name: Buffer | undefined
  let list: SparsePiece[] | undefined
  let offset: number | undefined
  for (const record of records) {
    if (!record.key.startsWith('GNU.sparse.')) continue
    switch (record.key.slice(11)) {
      case 'major':
        version = `${paxNumber(record)}.`
        break
      case 'minor':
        version += paxNumber(record)
        break
      case 'name':
        name = record.value
        break
      case 'size':
      case 'realsize':
        realSize = paxNumber(record)
        break
      case 'numblocks':
        list ??= []
        if (paxNumber(record) > max) throw tooMany(max)
        break
      case 'offset':
        offset = paxNumber(record)
        break
      case 'numbytes':
        list ??= []
        list.push(piece(offset, paxNumber(record)))
        offset = undefined
        if (list.length > max) throw tooMany(max)
        break
      case 'map':
        list = pairs(record.value.toString('latin1').split(',', max * 2 + 1), max)
        break
    }
  }
  if (version === '' && list === undefined) return undefined
  if (realSize === undefined) throw damaged('a sparse file does not state its size')
  const named = name === undefined ? {} : { name }
  if (version === '1.0') return { map: '1.0', realSize, ...named }
  if (version !== '' || list === undefined) {
    throw new Fault('UNIMPLEMENTED', `cannot read the archive: sparse format ${version || '?'}`)
  }
  return { map: list, realSize, ...named }
}

/** The map of version 1.0, which comes in blocks: decimal numbers, a line each; the first says how many pairs follow. */
export class SparseMapText {
  readonly #max: number
  readonly #blocks: string[] = []
  #lines = 0
  #count: number | undefined

  constructor(max: number) {
    this.#max = max
  }

  /** The map once its last block is there. */
  push(block: Buffer): SparsePiece[] | undefined {
    const text = block.toString('latin1')
    this.#blocks.push(text)
    // Lines are counted as they come: looking at the whole text at each block would make a long map quadratic.
    for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) this.#lines++
    if (this.#lines === 0) throw damaged('a sparse map does not begin with a number')
    this.#count ??= decimal(text.slice(0, text.indexOf('\n')))
    if (this.#count > this.#max) throw tooMany(this.#max)
    if (this.#lines < this.#count * 2 + 1) {
      // A line has at most 16 digits and its end.
      if (this.#blocks.length * BLOCK > (this.#count * 2 + 1) * 17) {
        throw damaged('a sparse map holds what is no number')
      }
      return undefined
    }
    return pairs(
      this.#blocks
        .join('')
        .split('\n', this.#count * 2 + 1)
        .slice(1),
      this.#max,
    )
  }
}

function pairs(numbers: readonly string[], max: number): SparsePiece[] {
  if (numbers.length / 2 > max) throw tooMany(max)
  if (numbers.length % 2 !== 0) throw damaged('a sparse map has half a piece')
  const pieces: SparsePiece[] = []
  for (let i = 0; i < numbers.length; i += 2) {
    pieces.push(piece(decimal(numbers[i] ?? ''), decimal(numbers[i + 1] ?? '')))
  }
  return pieces
}

function decimal(text: string): number {
  if (!/^\d{1,16}$/.test(text)) throw damaged('a sparse map holds what is no number')
  return Number(text)
}
