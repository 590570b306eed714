import { join } from 'node:path'
import type { Roots } from '../engine/types.ts'

/** Every path of pods below the roots that berth writes is made here; docs/state.md lists them. */
export function podPaths({ root, state }: Roots) {
  const pods = join(root, 'pods')
  const live = join(state, 'pods')
  const container = (pod: string, id: string, ...rest: string[]): string =>
    join(pods, pod, 'containers', id, ...rest)
  return {
    root,
    pods,
    live,
    /** Files of removed containers on their way out. */
    trash: join(root, 'pod-trash'),
    /** What could not be read at the start of the daemon, for a person to look at. */
    quarantine: join(root, 'quarantine'),
    /** Held by the daemon: two would undo each other's work. */
    lock: join(state, 'serve.lock'),
    programs: join(state, 'seccomp'),
    /** Of monitors that wait for a pod; its own directory becomes the pod's. */
    spares: join(state, 'spares'),
    /** A root for the files of those pods, until each is there. */
    spareRoot: join(root, 'spares'),
    spare: (id: string) => join(state, 'spares', id),
    pod: (id: string) => join(pods, id),
    podRecord: (id: string) => join(pods, id, 'record.json'),
    /** The record until all is done: what was made for a pod that never came to be is found by it. */
    making: (id: string) => join(pods, id, 'making.json'),
    /** A mark: the pod was asked to stop. */
    stopped: (id: string) => join(pods, id, 'stopped'),
    /** A layer of empty files that the pods' files in /etc are mounted on. */
    places: join(root, 'pod-places'),
    /** What CNI was asked and has answered, a file a pod. */
    networks: join(root, 'pod-networks'),
    /** Files berth makes for the containers' /etc: no longer of use than the pod's monitor. */
    etc: (id: string, file: 'hosts' | 'hostname' | 'resolv.conf') => join(live, id, file),
    containers: (id: string) => join(pods, id, 'containers'),
    container,
    record: (pod: string, id: string) => container(pod, id, 'record.json'),
    config: (pod: string, id: string) => container(pod, id, 'config.json'),
    /** A mark: the container was started, in which boot and into which cgroup. */
    run: (pod: string, id: string) => container(pod, id, 'run.json'),
    /** The same of a container whose first process was made before anybody asked for its start; becomes the other one then. */
    ahead: (pod: string, id: string) => container(pod, id, 'ahead.json'),
    exit: (pod: string, id: string) => container(pod, id, 'exit.json'),
    upper: (pod: string, id: string) => container(pod, id, 'upper'),
    work: (pod: string, id: string) => container(pod, id, 'work'),
    volume: (pod: string, id: string, index: number) => container(pod, id, `volume-${index}`),
    /** The directory of the pod's monitor: short, for its socket's path is bounded. */
    monitor: (id: string) => join(live, id),
    plan: (pod: string, id: string) => join(live, pod, `${id}.plan`),
  }
}

export type PodPaths = ReturnType<typeof podPaths>
