import { createHash } from 'node:crypto'
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { binding } from '../../src/kernel/binding.ts'
import { AT_FDCWD, O_NOFOLLOW, O_PATH } from '../../src/kernel/constants.ts'
import { Fd } from '../../src/kernel/fd.ts'

/**
 * All that is below a directory, a line a path: kind, mode, owner, time (of all but directories), links with the same inode, device, content and
 * extended attributes. Sorted; two trees are equal when their lines are.
 */
export function treeLines(root: string, leaveOut: readonly string[] = []): string[] {
  const lines: string[] = []
  const first = new Map<string, string>()
  const walk = (path: Buffer, name: string): void => {
    if (leaveOut.includes(name)) return
    const stat = lstatSync(path, { bigint: true })
    const isDirectory = stat.isDirectory()
    const parts = [
      name,
      (stat.mode & 0o177777n).toString(8),
      `${stat.uid}:${stat.gid}`,
      isDirectory ? '' : String(stat.mtimeNs),
    ]
    if (stat.isSymbolicLink()) parts.push(`-> ${readlinkSync(path)}`)
    if (stat.isCharacterDevice() || stat.isBlockDevice()) parts.push(`device ${stat.rdev}`)
    if (stat.isFile()) {
      const key = `${stat.dev}:${stat.ino}`
      const other = stat.nlink > 1n ? first.get(key) : undefined
      if (other !== undefined) parts.push(`= ${other}`)
      first.set(key, name)
      parts.push(
        stat.size > 1n << 28n
          ? `size ${stat.size}`
          : createHash('sha256').update(readFileSync(path)).digest('hex'),
      )
    }
    parts.push(...attributesOf(path))
    lines.push(parts.join(' '))
    if (!isDirectory) return
    for (const child of readdirSync(path, { encoding: 'buffer' })) {
      const full = Buffer.concat([path, Buffer.from('/'), child])
      walk(full, join(name, child.toString('latin1')))
    }
  }
  walk(Buffer.from(root), '/')
  return lines.sort()
}

function attributesOf(path: Buffer): string[] {
  using fd = new Fd(binding.openat2(AT_FDCWD, path, O_PATH | O_NOFOLLOW, 0, 0))
  return binding
    .flistxattr(fd.number)
    .filter((name) => !name.startsWith('user.umoci.') && !name.startsWith('trusted.overlay.'))
    .sort()
    .map((name) => `${name}=${binding.fgetxattr(fd.number, name).toString('hex')}`)
}
