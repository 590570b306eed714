/** The rules by which a container's packets leave the host with the host's address. */
import { createHash } from 'node:crypto'
import { Fault } from '../base/fault.ts'
import { changeRules, type Iptables } from './iptables.ts'
import { formatIpv4, formatSubnet, type Subnet } from './ipv4.ts'
import { getRules, NETLINK_NETFILTER } from './netlink.ts'
import { inNetwork } from './network-acts.ts'
import type { PluginCall } from './plugin.ts'

/** The chain's name is cut to this length by the plugins. */
const CHAIN_CHARACTERS = 28
const MULTICAST = '224.0.0.0/4'
/** Where plugins since 1.6 keep the rules of networks that do without iptables. */
const NFT_MASQUERADE_TABLE = 'cni_plugins_masquerade'

/** With a chain of its own, named as the plugin names it. That chain must be a new one: else the plugin is to look what there is. */
export function addMasquerade(
  iptables: Iptables,
  network: string,
  call: PluginCall,
  address: Subnet,
): Promise<void> {
  const { chain, comment, jump } = masquerade(network, call, address)
  const commands = [
    `-N ${chain}`,
    `-A ${chain} -d ${formatSubnet(address)} ${comment} -j ACCEPT`,
    `-A ${chain} ! -d ${MULTICAST} ${comment} -j MASQUERADE`,
    `-A ${jump}`,
  ]
  return changeRules(iptables, 'nat', commands, call)
}

/** Fails where somebody else's rule leads to the chain. */
export async function removeMasquerade(
  iptables: Iptables,
  network: string,
  call: PluginCall,
  address: Subnet,
): Promise<void> {
  const { chain, jump } = masquerade(network, call, address)
  try {
    await changeRules(iptables, 'nat', [`-D ${jump}`, `-F ${chain}`, `-X ${chain}`], call)
  } catch {
    // Nothing leads there, as after an ADD that was killed: the first line makes the chain, or empties it. Where something does lead there, this fails, too.
    await changeRules(iptables, 'nat', [`:${chain} - [0:0]`, `-X ${chain}`], call)
  }
}

function masquerade(
  network: string,
  call: PluginCall,
  address: Subnet,
): { chain: string; comment: string; jump: string } {
  const id = call.containerId ?? ''
  const hash = createHash('sha512').update(`${network}${id}`).digest('hex')
  const chain = `CNI-${hash}`.slice(0, CHAIN_CHARACTERS)
  const comment = `-m comment --comment "name: \\"${network}\\" id: \\"${id}\\""`
  return {
    chain,
    comment,
    jump: `POSTROUTING -s ${formatIpv4(address.address)}/32 ${comment} -j ${chain}`,
  }
}

/** Fails where plugins have rules that are not of iptables: an earlier configuration may have asked for them. */
export async function refuseNftMasquerade(): Promise<void> {
  const [rules] = await inNetwork('', [getRules(NFT_MASQUERADE_TABLE)], NETLINK_NETFILTER)
  if (rules?.length !== 0) throw new Fault('UNIMPLEMENTED', 'rules of nftables')
}
