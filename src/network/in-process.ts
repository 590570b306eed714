import { addToBridge, deleteFromBridge, LeftOver } from './bridge.ts'
import { areArgsIgnored, planBridge } from './bridge-plan.ts'
import { addToFirewall, deleteFromFirewall, planFirewall } from './firewall.ts'
import { Limits } from './limits.ts'
import { type PluginCall, PluginFault } from './plugin.ts'
import { generationOf } from './standard.ts'

/** The code that plugins of the CNI project give to what has no code of its own. */
const OTHER_FAILURE = 999

/** What a plugin would have said; undefined where it says nothing. */
export interface Said {
  readonly said: unknown
}

/**
 * Does what a standard plugin is called for without starting it: the same result, and the same state of kernel, rules and files, so that the plugin can
 * take back what was made here and the other way round. Undefined where that is not done here, or did not succeed: nothing has changed
 * then, and the plugin is to be executed. So it is always the plugin that refuses, in its own words. Fails only where the time is over, or
 * the caller has gone.
 */
export async function callInProcess(call: PluginCall): Promise<Said | undefined> {
  const act = actOf(call)
  if (act === undefined) return undefined
  using limits = new Limits(call)
  try {
    return await act(limits, { ...call, signal: limits.signal })
  } catch (error) {
    if (limits.fault) {
      await limits.ended()
      throw limits.fault
    }
    if (error instanceof LeftOver) {
      const what = `CNI plugin ${call.type} (${call.command}), which berth does itself, failed`
      throw new PluginFault(`${what}: ${error.message}`, OTHER_FAILURE)
    }
    return undefined
  }
}

type Act = (limits: Limits, call: PluginCall) => Promise<Said | undefined>

function actOf({ command, type, config, directories, args }: PluginCall): Act | undefined {
  if (command !== 'ADD' && command !== 'DEL') return undefined
  if (type === 'bridge') {
    const plan = planBridge(config)
    if (!plan || !areArgsIgnored(args ?? [])) return undefined
    return async (limits, call) => {
      const [generation, ipam] = await Promise.all(
        ['bridge', 'host-local'].map((one) => generationOf(one, directories, plan.version)),
      )
      if (!generation || generation !== ipam) return undefined
      if (command === 'ADD') return { said: await addToBridge(plan, call, generation, limits) }
      await deleteFromBridge(plan, call, generation, limits)
      return { said: undefined }
    }
  }
  if (type === 'firewall') {
    const plan = planFirewall(config)
    if (!plan) return undefined
    return async (limits, call) => {
      if (!(await generationOf('firewall', directories, plan.version))) return undefined
      if (command === 'ADD') return { said: await addToFirewall(plan, call, limits) }
      await deleteFromFirewall(plan, call, limits)
      return { said: undefined }
    }
  }
  return undefined
}
