/**
 * The way back of an operation, written where the way forth is.
 *
 * `await using undo = new Undo(report)`; push each step's undo beside the step; `keep()` at success.
 * Left any other way, the steps run backwards. A failing step is reported and never thrown: a throwing
 * dispose would hide the first error behind a SuppressedError.
 */
export class Undo {
  #steps: { what: string; step: () => unknown }[] = []
  readonly #report: (message: string, error: unknown) => void

  constructor(report: (message: string, error: unknown) => void) {
    this.#report = report
  }

  push(what: string, step: () => unknown): void {
    this.#steps.push({ what, step })
  }

  /** The operation has succeeded: nothing is undone. */
  keep(): void {
    this.#steps = []
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { what, step } of this.#steps.reverse()) {
      try {
        await step()
      } catch (error) {
        this.#report(`cannot undo "${what}"`, error)
      }
    }
    this.#steps = []
  }
}
