/** Messages of netlink(7) and rtnetlink(7), as bytes: pure. Numbers are those of linux/netlink.h, rtnetlink.h, if_link.h and if_addr.h. */
import { Fault } from '../base/fault.ts'

export const NETLINK_ROUTE = 0
export const NETLINK_NETFILTER = 12

const NLM_F_REQUEST = 0x1
const NLM_F_ACK = 0x4
const NLM_F_DUMP = 0x300
const NLM_F_EXCL = 0x200
const NLM_F_CREATE = 0x400
const HEADER_BYTES = 16
const ATTRIBUTE_BYTES = 4
/** NLA_F_NESTED and NLA_F_NET_BYTEORDER are not of the type. */
const TYPE_MASK = 0x3fff

const RTM_NEWLINK = 16
const RTM_DELLINK = 17
const RTM_GETLINK = 18
const RTM_SETLINK = 19
const RTM_NEWADDR = 20
const RTM_GETADDR = 22
const RTM_NEWROUTE = 24
const NFT_MSG_GETRULE = (10 << 8) | 7

const AF_UNSPEC = 0
const AF_INET = 2
const AF_BRIDGE = 7
const IFF_UP = 0x1
const IFF_PROMISC = 0x100
const IFLA = {
  address: 1,
  ifname: 3,
  mtu: 4,
  master: 10,
  protinfo: 12 | 0x8000,
  txqlen: 13,
  operstate: 16,
  linkinfo: 18,
  netNsFd: 28,
} as const
const INFO_KIND = 1
const INFO_DATA = 2
const VETH_INFO_PEER = 1
const BRPORT_MODE = 4
const IFA_ADDRESS = 1
const IFA_LOCAL = 2
const IFA_BROADCAST = 4
const IFA_FLAGS = 8
const IFA_F_PERMANENT = 0x80
const RTA_DST = 1
const RTA_OIF = 4
const RTA_GATEWAY = 5
const RT_TABLE_MAIN = 254
const RTPROT_BOOT = 3
const RT_SCOPE_UNIVERSE = 0
const RTN_UNICAST = 1
/** IF_OPER_UP of linux/if.h. */
const OPER_UP = 6

/** An IPv4 address, the most significant byte first, as a number. */
export type Ipv4 = number

export interface Link {
  readonly index: number
  readonly name: string
  /** As six bytes in hexadecimal; '' where it has none. */
  readonly mac: string
  /** `bridge`, `veth` …; '' for hardware. */
  readonly kind: string
  readonly isUp: boolean
  readonly isPromiscuous: boolean
  /** A packet could pass now. */
  readonly isOperating: boolean
}

export interface LinkAddress {
  readonly index: number
  readonly family: number
  readonly prefix: number
  /** Undefined where it is none of IPv4. */
  readonly address: Ipv4 | undefined
  /** RT_SCOPE_LINK and narrower: not to be reached from elsewhere. */
  readonly isLocal: boolean
}

type Attribute = readonly [type: number, value: Uint8Array]

export function getLink(name: string): Buffer {
  return message(RTM_GETLINK, NLM_F_ACK, linkHead(), [[IFLA.ifname, text(name)]])
}

/** The addresses of all interfaces. */
export function getAddresses(): Buffer {
  return message(RTM_GETADDR, NLM_F_DUMP, Buffer.alloc(8), [])
}

/** A pair of interfaces: one here, its peer in the namespace of the fd. An mtu of 0 leaves it to the kernel, as does a missing queue length. */
export function addVeth(pair: {
  readonly name: string
  readonly peer: string
  readonly peerNetnsFd: number
  readonly mtu: number
  readonly queueLength: number | undefined
}): Buffer {
  const common: Attribute[] = [
    ...(pair.mtu > 0 ? [[IFLA.mtu, u32(pair.mtu)] as const] : []),
    ...(pair.queueLength === undefined ? [] : [[IFLA.txqlen, u32(pair.queueLength)] as const]),
  ]
  const peer = Buffer.concat([
    linkHead(),
    attributes([[IFLA.ifname, text(pair.peer)], ...common, [IFLA.netNsFd, u32(pair.peerNetnsFd)]]),
  ])
  return message(RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, linkHead(), [
    [IFLA.ifname, text(pair.name)],
    ...common,
    [
      IFLA.linkinfo,
      attributes([
        [INFO_KIND, text('veth')],
        [INFO_DATA, attributes([[VETH_INFO_PEER, peer]])],
      ]),
    ],
  ])
}

export function deleteLink(index: number): Buffer {
  return message(RTM_DELLINK, NLM_F_ACK, linkHead({ index }), [])
}

export function setUp(index: number): Buffer {
  return message(RTM_NEWLINK, NLM_F_ACK, linkHead({ index, up: true }), [])
}

export function setDown(index: number): Buffer {
  return message(RTM_NEWLINK, NLM_F_ACK, linkHead({ index, down: true }), [])
}

/** Into the namespace of the fd, there under that name; both or nothing. */
export function moveLink(index: number, name: string, netnsFd: number): Buffer {
  return message(RTM_NEWLINK, NLM_F_ACK, linkHead({ index }), [
    [IFLA.ifname, text(name)],
    [IFLA.netNsFd, u32(netnsFd)],
  ])
}

export function setMaster(index: number, master: number): Buffer {
  return message(RTM_SETLINK, NLM_F_ACK, linkHead({ index }), [[IFLA.master, u32(master)]])
}

/** Whether a bridge's port sends a packet out where it came in. */
export function setHairpin(index: number, on: boolean): Buffer {
  return message(RTM_SETLINK, NLM_F_ACK, linkHead({ index, family: AF_BRIDGE }), [
    [IFLA.protinfo, attributes([[BRPORT_MODE, Buffer.from([on ? 1 : 0])]])],
  ])
}

export function addAddress(index: number, address: Ipv4, prefix: number): Buffer {
  const head = Buffer.alloc(8)
  head[0] = AF_INET
  head[1] = prefix
  head.writeUInt32LE(index, 4)
  const broadcast: Attribute[] =
    prefix < 31 ? [[IFA_BROADCAST, ipv4((address | (0xffffffff >>> prefix)) >>> 0)]] : []
  return message(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, head, [
    [IFA_LOCAL, ipv4(address)],
    [IFA_ADDRESS, ipv4(address)],
    ...broadcast,
  ])
}

export function addRoute(
  index: number,
  route: {
    readonly destination: Ipv4
    readonly prefix: number
    readonly gateway?: Ipv4 | undefined
  },
): Buffer {
  const head = Buffer.alloc(12)
  head[0] = AF_INET
  head[1] = route.prefix
  head[4] = RT_TABLE_MAIN
  head[5] = RTPROT_BOOT
  head[6] = RT_SCOPE_UNIVERSE
  head[7] = RTN_UNICAST
  return message(RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE, head, [
    [RTA_DST, ipv4(route.destination)],
    ...(route.gateway === undefined ? [] : [[RTA_GATEWAY, ipv4(route.gateway)] as const]),
    [RTA_OIF, u32(index)],
  ])
}

/** All rules of a table of nf_tables, or of a chain of it for IPv4; none where there is no such table or chain. */
export function getRules(table: string, chain?: string): Buffer {
  const family = chain === undefined ? AF_UNSPEC : AF_INET
  return message(NFT_MSG_GETRULE, NLM_F_DUMP, Buffer.from([family, 0, 0, 0]), [
    [1, text(table)],
    ...(chain === undefined ? [] : [[2, text(chain)] as const]),
  ])
}

/** The interface that getLink() was answered with. */
export function parseLink(answer: Buffer): Link {
  const first = messages(answer)[0]
  if (!first || first.body.length < HEADER_BYTES) throw damaged()
  const { body } = first
  const found = parseAttributes(body.subarray(HEADER_BYTES))
  const info = found.get(IFLA.linkinfo)
  const kind = info && parseAttributes(info).get(INFO_KIND)
  const flags = body.readUInt32LE(8)
  return {
    index: body.readInt32LE(4),
    name: string(found.get(IFLA.ifname)),
    mac:
      found
        .get(IFLA.address)
        ?.toString('hex')
        .replace(/..(?!$)/g, '$&:') ?? '',
    kind: string(kind),
    isUp: (flags & IFF_UP) !== 0,
    isPromiscuous: (flags & IFF_PROMISC) !== 0,
    isOperating: found.get(IFLA.operstate)?.[0] === OPER_UP,
  }
}

export function parseAddresses(answer: Buffer): LinkAddress[] {
  return messages(answer).map(({ body }) => {
    if (body.length < 8) throw damaged()
    const found = parseAttributes(body.subarray(8))
    const bytes = found.get(IFA_LOCAL) ?? found.get(IFA_ADDRESS)
    return {
      family: body[0] ?? AF_UNSPEC,
      prefix: body[1] ?? 0,
      isLocal: (body[3] ?? 0) >= 253,
      index: body.readUInt32LE(4),
      address: bytes?.length === 4 ? bytes.readUInt32BE(0) : undefined,
    }
  })
}

/** An address of either family, as the kernel has it. */
export interface KeptAddress {
  readonly family: number
  readonly prefix: number
  readonly local: Uint8Array
  /** Of the other end; as `local` where there is none. */
  readonly address: Uint8Array
  readonly broadcast: Uint8Array | undefined
}

/** Of an interface: what somebody has given it for good, and what is known beyond the link. */
export function parseKept(answer: Buffer, index: number): KeptAddress[] {
  return messages(answer).flatMap(({ body }) => {
    if (body.length < 8) throw damaged()
    const found = parseAttributes(body.subarray(8))
    const flags = found.get(IFA_FLAGS)?.readUInt32LE(0) ?? body[2] ?? 0
    const address = found.get(IFA_ADDRESS)
    const isKept = (flags & IFA_F_PERMANENT) !== 0 && body[3] === RT_SCOPE_UNIVERSE
    if (!isKept || body.readUInt32LE(4) !== index || !address) return []
    const local = found.get(IFA_LOCAL) ?? address
    const [family = AF_UNSPEC, prefix = 0] = body
    return [{ family, prefix, local, address, broadcast: found.get(IFA_BROADCAST) }]
  })
}

export function addKept(index: number, kept: KeptAddress): Buffer {
  const head = Buffer.alloc(8)
  head[0] = kept.family
  head[1] = kept.prefix
  head.writeUInt32LE(index, 4)
  return message(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, head, [
    [IFA_LOCAL, kept.local],
    [IFA_ADDRESS, kept.address],
    ...(kept.broadcast ? [[IFA_BROADCAST, kept.broadcast] as const] : []),
  ])
}

export function ipv4(address: Ipv4): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(address)
  return bytes
}

function message(
  type: number,
  flags: number,
  head: Buffer,
  attached: readonly Attribute[],
): Buffer {
  const body = Buffer.concat([head, attributes(attached)])
  const header = Buffer.alloc(HEADER_BYTES)
  header.writeUInt32LE(HEADER_BYTES + body.length, 0)
  header.writeUInt16LE(type, 4)
  header.writeUInt16LE(NLM_F_REQUEST | flags, 6)
  return Buffer.concat([header, body])
}

function linkHead(
  link: {
    readonly index?: number
    readonly up?: boolean
    readonly down?: boolean
    readonly family?: number
  } = {},
): Buffer {
  const head = Buffer.alloc(HEADER_BYTES)
  head[0] = link.family ?? AF_UNSPEC
  head.writeInt32LE(link.index ?? 0, 4)
  if (link.up) head.writeUInt32LE(IFF_UP, 8)
  // Which flags are meant.
  if (link.up || link.down) head.writeUInt32LE(IFF_UP, 12)
  return head
}

function attributes(list: readonly Attribute[]): Buffer {
  return Buffer.concat(
    list.map(([type, value]) => {
      const bytes = Buffer.alloc((ATTRIBUTE_BYTES + value.length + 3) & ~3)
      bytes.writeUInt16LE(ATTRIBUTE_BYTES + value.length, 0)
      bytes.writeUInt16LE(type, 2)
      bytes.set(value, ATTRIBUTE_BYTES)
      return bytes
    }),
  )
}

function messages(answer: Buffer): { type: number; body: Buffer }[] {
  const found: { type: number; body: Buffer }[] = []
  for (let at = 0; at < answer.length; ) {
    const size = answer.length - at < HEADER_BYTES ? 0 : answer.readUInt32LE(at)
    if (size < HEADER_BYTES || at + size > answer.length) throw damaged()
    const body = answer.subarray(at + HEADER_BYTES, at + size)
    found.push({ type: answer.readUInt16LE(at + 4), body })
    at += (size + 3) & ~3
  }
  return found
}

function parseAttributes(bytes: Buffer): Map<number, Buffer> {
  const found = new Map<number, Buffer>()
  for (let at = 0; at + ATTRIBUTE_BYTES <= bytes.length; ) {
    const size = bytes.readUInt16LE(at)
    if (size < ATTRIBUTE_BYTES || at + size > bytes.length) throw damaged()
    const type = bytes.readUInt16LE(at + 2) & TYPE_MASK
    found.set(type, bytes.subarray(at + ATTRIBUTE_BYTES, at + size))
    at += (size + 3) & ~3
  }
  return found
}

function damaged(): Fault {
  return new Fault('INTERNAL', 'the kernel has given a netlink message that is none')
}

const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}

const text = (value: string): Buffer => Buffer.from(`${value}\0`)

const string = (bytes: Buffer | undefined): string =>
  bytes?.toString('utf8').replace(/\0.*$/s, '') ?? ''
