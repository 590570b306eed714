import { accessSync, constants, realpathSync } from 'node:fs'
import { basename, join } from 'node:path'
import { Fault } from '../base/fault.ts'
import { environment, PATH, PLUGIN_TIMEOUT_MS, type PluginCall } from './plugin.ts'
import { execute } from './program.ts'

/** Which rules a machine's iptables makes: those of nf_tables, or those of before. */
export interface Iptables {
  readonly restore: string
  readonly isNft: boolean
}

/** The iptables that the plugins find; undefined where it is not one program by all its names. */
export function findIptables(): Iptables | undefined {
  const [iptables, restore, ip6tables] = ['iptables', 'iptables-restore', 'ip6tables'].map(find)
  if (!iptables || !restore || !ip6tables) return undefined
  const program = realpathSync(iptables)
  // A wrapper may choose anew at each call.
  if (program !== realpathSync(restore) || program !== realpathSync(ip6tables)) return undefined
  const name = basename(program)
  if (name !== 'xtables-nft-multi' && name !== 'xtables-legacy-multi') return undefined
  return { restore, isNft: name === 'xtables-nft-multi' }
}

/**
 * One transaction: all commands of the table take effect, or none does and it fails. Done when the kernel has them: where rules are deleted, iptables-restore
 * then waits at its end for the kernel to free them (10 ms), and nobody else needs to.
 */
export async function changeRules(
  iptables: Iptables,
  table: string,
  commands: readonly string[],
  call: PluginCall,
): Promise<void> {
  const { code, stderr } = await execute(iptables.restore, `iptables-restore for ${call.type}`, {
    args: ['--noflush', '--wait'],
    // With the container's id, by which a later daemon ends what this one has left.
    env: environment(call),
    ...inputOf(table, commands),
    timeoutMs: call.timeoutMs ?? PLUGIN_TIMEOUT_MS,
    signal: call.signal,
  })
  if (code !== 0) throw new Fault('FAILED_PRECONDITION', `iptables-restore: ${stderr.trim()}`)
}

/**
 * What iptables-restore reads. It reads line by line, so that who has read the tail has committed; but 1.8.4 with nf_tables first reads all lines up to one that
 * looks for a rule: without such a one at the beginning only its end tells.
 */
export function inputOf(
  table: string,
  commands: readonly string[],
): { readonly input: string; readonly tail?: string } {
  const input = `*${table}\n${commands.join('\n')}\nCOMMIT\n`
  return /^-[CD] /.test(commands[0] ?? '') ? { input, tail: '# no more\n' } : { input }
}

function find(name: string): string | undefined {
  return PATH.map((directory) => join(directory, name)).find((path) => {
    try {
      accessSync(path, constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}
