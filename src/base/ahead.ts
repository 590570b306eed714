/** Of so many kinds one is kept: those wanted last. */
const KINDS_MAX = 8

/** What is made before it is wanted: one of each kind that was wanted lately. Nothing is given twice, so whoever gets it may keep and change it. */
export class Ahead<T> {
  readonly #make: (kind: string) => Promise<T>
  readonly #made = new Map<string, T>()

  constructor(make: (kind: string) => Promise<T>) {
    this.#make = make
  }

  async take(kind: string): Promise<T> {
    const made = this.#made.get(kind)
    this.#made.delete(kind)
    return made ?? this.#make(kind)
  }

  /** Makes one for the next who wants this kind, as soon as what is to be done by now has been done. */
  again(kind: string): void {
    setImmediate(setImmediate, () => {
      if (this.#made.has(kind)) return
      // Who wants it makes it himself, and is told why that fails.
      this.#make(kind).then(
        (made) => this.#keep(kind, made),
        () => {},
      )
    })
  }

  #keep(kind: string, made: T): void {
    this.#made.set(kind, made)
    const [oldest] = this.#made.keys()
    if (this.#made.size > KINDS_MAX && oldest !== undefined) this.#made.delete(oldest)
  }
}
