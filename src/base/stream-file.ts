import { randomBytes } from 'node:crypto'
import { statSync } from 'node:fs'
import { type FileHandle, open, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { Fault, isErrno } from './fault.ts'
import { syncDirectory, TEMPORARY } from './file.ts'

/**
 * Writes a stream to a file that has its name only when it is whole; what fails leaves nothing, and what was there before. A device or pipe
 * that is there is written to as it is. With `durable` the file is on the disk when this returns. RESOURCE_EXHAUSTED where the disk is full.
 */
export async function writeStream(
  path: string,
  chunks: AsyncIterable<Uint8Array>,
  options: { durable?: boolean } = {},
): Promise<void> {
  const there = statSync(path, { throwIfNoEntry: false })
  if (there?.isDirectory()) throw new Fault('INVALID_ARGUMENT', `${path} is a directory`)
  if (there !== undefined && !there.isFile()) {
    await using file = await open(path, 'w')
    return writeAll(file, chunks, path)
  }
  const temporary = `${path}${TEMPORARY}${randomBytes(6).toString('hex')}`
  try {
    {
      await using file = await create(temporary, path)
      await writeAll(file, chunks, path)
      if (options.durable) await file.sync()
    }
    await rename(temporary, path)
    if (options.durable) syncDirectory(dirname(path))
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
}

async function create(temporary: string, path: string): Promise<FileHandle> {
  try {
    return await open(temporary, 'wx', 0o644)
  } catch (error) {
    if (!isErrno(error, 'ENOENT', 'ENOTDIR')) throw error
    throw new Fault('NOT_FOUND', `there is no directory for ${path}`, { cause: error })
  }
}

async function writeAll(
  file: FileHandle,
  chunks: AsyncIterable<Uint8Array>,
  path: string,
): Promise<void> {
  for await (const chunk of chunks) {
    try {
      for (let done = 0; done < chunk.length; ) {
        done += (await file.write(chunk, done, chunk.length - done)).bytesWritten
      }
    } catch (error) {
      if (!isErrno(error, 'ENOSPC', 'EDQUOT')) throw error
      throw new Fault('RESOURCE_EXHAUSTED', `no space is left on the disk of ${path}`, {
        cause: error,
      })
    }
  }
}
