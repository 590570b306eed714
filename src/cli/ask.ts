import { Fault } from '../base/fault.ts'
import { ownStream } from './own-stdio.ts'

const LINE_BYTES_MAX = 64 * 1024
const CTRL_C = '\x03'
const CTRL_D = '\x04'
const BACKSPACE = ['\x7f', '\b']

/** A line from the terminal, of which with `hidden` nothing is shown. FAILED_PRECONDITION where stdin is none, naming what to give in its place. */
export async function ask(
  question: string,
  options: { hidden: boolean; instead: string },
): Promise<string> {
  const { stdin } = process
  if (!stdin.isTTY) {
    throw new Fault('FAILED_PRECONDITION', `stdin is no terminal: give ${options.instead}`)
  }
  const screen = ownStream('stderr')
  screen.write(question)
  stdin.setRawMode(true).setEncoding('utf8').resume()
  try {
    return await readLine(stdin, (shown) => {
      if (!options.hidden) screen.write(shown)
    })
  } finally {
    stdin.setRawMode(false).pause()
    screen.write('\n')
  }
}

function readLine(stdin: NodeJS.ReadStream, show: (text: string) => void): Promise<string> {
  return new Promise((resolve, reject) => {
    let line = ''
    const end = (act: () => void): void => {
      // Flowing without a listener it would lose what was typed ahead.
      stdin.pause().off('data', onData).off('end', onEnd)
      act()
    }
    const onEnd = (): void => end(() => reject(calledOff()))
    const onData = (text: string): void => {
      for (const [i, character] of [...text].entries()) {
        const isEnd = character === '\r' || character === '\n'
        if (isEnd) {
          end(() => resolve(line))
          // Typed ahead: it answers the next question.
          const rest = [...text].slice(i + 1).join('')
          if (rest !== '') stdin.unshift(rest, 'utf8')
        } else if (character === CTRL_C || character === CTRL_D) onEnd()
        else type(character)
        if (isEnd || character === CTRL_C || character === CTRL_D) return
      }
    }
    const type = (character: string): void => {
      if (BACKSPACE.includes(character)) {
        if (line !== '') show('\b \b')
        line = line.slice(0, -1)
      } else if (line.length < LINE_BYTES_MAX) {
        line += character
        show(character)
      }
    }
    stdin.on('data', onData).on('end', onEnd)
  })
}

function calledOff(): Fault {
  return new Fault('FAILED_PRECONDITION', 'called off')
}

/** All of stdin as one line: for what a script hands over. */
export async function readSecret(what: string): Promise<string> {
  const parts: Buffer[] = []
  let length = 0
  for await (const part of process.stdin) {
    const bytes = part as Buffer
    length += bytes.length
    if (length > LINE_BYTES_MAX) {
      throw new Fault('INVALID_ARGUMENT', `${what} is longer than ${LINE_BYTES_MAX} bytes`)
    }
    parts.push(bytes)
  }
  return Buffer.concat(parts)
    .toString('utf8')
    .replace(/\r?\n$/, '')
}
