/**
 * Whether one of an image's names or digests is pinned by `image.pinned`: a pattern is a whole name, the beginning of one before `*`, or a part between two.
 * Names are compared as they are written: give all forms of a name that an image has (`docker.io/library/redis:7`, `redis:7`).
 */
export function isPinned(patterns: readonly string[], names: readonly string[]): boolean {
  return patterns.some((pattern) => {
    const part = pattern.replace(/^\*|\*$/g, '')
    if (pattern.startsWith('*')) return names.some((name) => name.includes(part))
    if (pattern.endsWith('*')) return names.some((name) => name.startsWith(part))
    return names.includes(pattern)
  })
}
