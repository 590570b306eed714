/** Items of one message of a streamed list. */
const PART_MAX = 256

/** Whether all labels of the selector are there with these values. */
export function hasLabels(
  labels: Readonly<Record<string, string>>,
  selector: Readonly<Record<string, string>>,
): boolean {
  return Object.entries(selector).every(
    ([key, value]) => Object.hasOwn(labels, key) && labels[key] === value,
  )
}

/** None of an empty list: the stream just ends. */
export function* inParts<T>(items: readonly T[]): Iterable<T[]> {
  for (let at = 0; at < items.length; at += PART_MAX) yield items.slice(at, at + PART_MAX)
}
