/** What the kubelet is told of at once (CRI ContainerEventType); a pod counts as a container of its own id. */
export type PodEventType = 'created' | 'started' | 'stopped' | 'deleted'

export interface PodEvent {
  readonly type: PodEventType
  /** A container's id, or the pod's. */
  readonly id: string
  readonly podId: string
  readonly timeNs: string
}

/** Events that wait for one slow subscriber; with one more it has lost the thread and is let go. */
const WAITING_MAX = 4096

/** A subscriber that did not keep up: it has to look at everything anew. */
export class EventBus {
  readonly #subscribers = new Set<EventQueue>()
  /** Events that were lost because a subscriber was too slow. */
  dropped = 0

  emit(event: PodEvent): void {
    for (const subscriber of this.#subscribers) {
      if (subscriber.push(event)) continue
      this.dropped++
      this.#subscribers.delete(subscriber)
    }
  }

  /** Events from now on; ends with the signal, or when the reader falls behind. */
  subscribe(signal: AbortSignal): AsyncIterable<PodEvent> {
    const queue = new EventQueue()
    this.#subscribers.add(queue)
    const leave = (): void => {
      this.#subscribers.delete(queue)
      queue.end()
    }
    if (signal.aborted) leave()
    else signal.addEventListener('abort', leave, { once: true })
    return queue
  }
}

class EventQueue implements AsyncIterable<PodEvent> {
  readonly #events: PodEvent[] = []
  #ended = false
  #wake: (() => void) | undefined

  push(event: PodEvent): boolean {
    if (this.#events.length >= WAITING_MAX) {
      this.end()
      return false
    }
    this.#events.push(event)
    this.#wake?.()
    return true
  }

  end(): void {
    this.#ended = true
    this.#wake?.()
  }

  async *[Symbol.asyncIterator](): AsyncIterator<PodEvent> {
    for (;;) {
      const event = this.#events.shift()
      if (event) {
        yield event
        continue
      }
      if (this.#ended) return
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
      this.#wake = undefined
    }
  }
}
