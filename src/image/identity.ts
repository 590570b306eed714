/** Whether what a signature says it was made for is what is being pulled: `signedIdentity` of containers-policy.json(5). */
import { Fault } from '../base/fault.ts'
import { isObject } from './json.ts'
import { parseNamed, type Reference, repositoryOf } from './reference.ts'

export type IdentityRule =
  | { readonly type: 'matchExact' | 'matchRepoDigestOrExact' | 'matchRepository' }
  | { readonly type: 'exactReference' | 'exactRepository'; readonly reference: Reference }
  | { readonly type: 'remapIdentity'; readonly prefix: string; readonly signedPrefix: string }

/** Each type's own fields. */
const FIELDS: Readonly<Record<IdentityRule['type'], readonly string[]>> = {
  matchExact: [],
  matchRepoDigestOrExact: [],
  matchRepository: [],
  exactReference: ['dockerReference'],
  exactRepository: ['dockerRepository'],
  remapIdentity: ['prefix', 'signedPrefix'],
}

/** INVALID_ARGUMENT naming `what`. Missing is matchRepoDigestOrExact. */
export function parseIdentityRule(value: unknown, what: string): IdentityRule {
  if (value === undefined) return { type: 'matchRepoDigestOrExact' }
  const bad = (why: string): Fault =>
    new Fault('INVALID_ARGUMENT', `signedIdentity of ${what}: ${why}`)
  if (!isObject(value)) throw bad('it must be an object')
  const { type, ...given } = value
  if (typeof type !== 'string' || !Object.hasOwn(FIELDS, type)) {
    throw bad(`its type ${JSON.stringify(type)} is none of ${Object.keys(FIELDS).join(', ')}`)
  }
  const kind = type as IdentityRule['type']
  const unknown = Object.keys(given).find((key) => !FIELDS[kind].includes(key))
  if (unknown !== undefined) throw bad(`${JSON.stringify(unknown)} is not known there`)
  const text = (name: string): string => {
    const field = given[name]
    if (typeof field === 'string' && field !== '') return field
    throw bad(`${name} is missing`)
  }
  if (kind === 'remapIdentity') {
    return { type: kind, prefix: text('prefix'), signedPrefix: text('signedPrefix') }
  }
  if (kind === 'exactReference') {
    const reference = parseNamed(text('dockerReference'))
    if (isBare(reference)) throw bad('dockerReference needs a tag or a digest')
    return { type: kind, reference }
  }
  if (kind === 'exactRepository') {
    const reference = parseNamed(text('dockerRepository'))
    if (!isBare(reference)) throw bad('dockerRepository must be without tag and digest')
    return { type: kind, reference }
  }
  return { type: kind }
}

/** `signed` is the signature's own docker-reference. What is no reference matches nothing. */
export function matchesIdentity(rule: IdentityRule, pulled: Reference, signed: string): boolean {
  let claimed: Reference
  try {
    claimed = parseNamed(signed)
  } catch (error) {
    if (error instanceof Fault) return false
    throw error
  }
  switch (rule.type) {
    case 'matchExact':
      return isSame(pulled, claimed)
    case 'matchRepository':
      return isSameRepository(pulled, claimed)
    case 'matchRepoDigestOrExact':
      return isSameOrOfDigest(pulled, claimed)
    case 'exactReference':
      return isSame(rule.reference, claimed)
    case 'exactRepository':
      return isSameRepository(rule.reference, claimed)
    case 'remapIdentity':
      return isSameOrOfDigest(remapped(rule, pulled), claimed)
  }
}

function isBare({ tag, digest }: Reference): boolean {
  return tag === undefined && digest === undefined
}

function isSameRepository(a: Reference, b: Reference): boolean {
  return a.domain === b.domain && a.path === b.path
}

/** One that leaves its tag out, as cosign writes them, is the same as nothing. */
function isSame(a: Reference, b: Reference): boolean {
  if (isBare(a) || isBare(b) || !isSameRepository(a, b)) return false
  return a.digest === undefined && b.digest === undefined ? a.tag === b.tag : a.digest === b.digest
}

function isSameOrOfDigest(pulled: Reference, claimed: Reference): boolean {
  return pulled.digest === undefined ? isSame(pulled, claimed) : isSameRepository(pulled, claimed)
}

/** As it is where the prefix is another's. */
function remapped(rule: { prefix: string; signedPrefix: string }, pulled: Reference): Reference {
  const name = repositoryOf(pulled)
  if (name !== rule.prefix && !name.startsWith(`${rule.prefix}/`)) return pulled
  const { domain, path } = parseNamed(`${rule.signedPrefix}${name.slice(rule.prefix.length)}`)
  return { ...pulled, domain, path }
}
