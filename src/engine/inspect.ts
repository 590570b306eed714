import { findContainer } from './find.ts'
import { addressesOf } from './network.ts'
import type { Engine } from './open.ts'
import { readConfig } from './record.ts'
import { readRunMark } from './status.ts'

/** A document in the words of docker's inspect where these fit, with the whole OCI configuration beside. */
export async function inspectContainer(
  engine: Engine,
  ref: string,
): Promise<Record<string, unknown>> {
  const { record, status } = await findContainer(engine, ref)
  const spec = readConfig(engine, record.id)
  const { options } = record
  const [path = '', ...args] = record.command
  return {
    Id: record.id,
    Name: record.name,
    Created: time(record.createdNs),
    Path: path,
    Args: args,
    State: {
      Status: status.state === 'stopped' ? 'exited' : status.state,
      Running: status.state === 'running' || status.state === 'paused',
      Paused: status.state === 'paused',
      OOMKilled: status.oomKilled,
      Pid: status.pid,
      MonitorPid: status.monitorPid,
      ExitCode: status.exitCode,
      Reason: reason(status),
      Error: status.error,
      StartedAt: time(status.startedNs),
      FinishedAt: time(status.finishedNs),
    },
    Image: record.imageId,
    ImageName: record.image,
    RestartCount: status.restarts,
    LogPath: options.logDriver === 'none' ? '' : engine.at.log(record.id),
    BundlePath: engine.at.container(record.id),
    CgroupPath: readRunMark(engine, record.id)?.cgroup ?? '',
    Config: {
      Hostname: spec.hostname ?? '',
      User: options.user ?? record.imageConfig?.User ?? '',
      Env: spec.process?.env ?? [],
      Cmd: record.command,
      Entrypoint: options.entrypoint ?? record.imageConfig?.Entrypoint ?? null,
      WorkingDir: spec.process?.cwd ?? '/',
      Tty: options.terminal,
      OpenStdin: options.interactive,
      Labels: record.labels,
      Annotations: spec.annotations ?? {},
      StopSignal: record.stopSignal,
      StopTimeout: record.stopTimeoutS,
    },
    HostConfig: {
      AutoRemove: options.remove,
      Privileged: options.privileged,
      ReadonlyRootfs: options.readOnly,
      Init: options.reaper,
      NetworkMode: options.network ?? 'default',
      PidMode: options.pid ?? 'private',
      IpcMode: options.ipc ?? 'private',
      UTSMode: options.uts ?? 'private',
      UsernsMode: options.userns ?? 'host',
      CgroupParent: options.cgroupParent ?? '',
      RestartPolicy: {
        Name: options.restart.policy,
        MaximumRetryCount: options.restart.maximumRetries,
      },
      LogConfig: { Type: options.logDriver },
      CapAdd: options.capAdd,
      CapDrop: options.capDrop,
      Resources: spec.linux?.resources ?? {},
    },
    Mounts: (spec.mounts ?? [])
      // Our own /etc/hosts and the like are no one's mounts.
      .filter(
        (m) => m.type === 'bind' && !m.source?.startsWith(`${engine.at.container(record.id)}/`),
      )
      .map((mount) => ({
        Type: record.volumes.some((v) => v.target === mount.destination) ? 'volume' : 'bind',
        Name: record.volumes.find((v) => v.target === mount.destination)?.name ?? '',
        Source: mount.source ?? '',
        Destination: mount.destination,
        RW: !mount.options?.some((o) => o === 'ro' || o === 'rro'),
        Options: mount.options ?? [],
      })),
    NetworkSettings: {
      IPAddresses: addressesOf(engine, record.id),
      Ports: options.ports,
    },
    Spec: spec,
  }
}

/** kubelet's and docker's words for how a container has ended. */
export function reason(status: {
  state: string
  exitCode: number
  oomKilled: boolean
  error: string
}): string {
  if (status.state !== 'stopped') return ''
  if (status.oomKilled) return 'OOMKilled'
  if (status.error !== '')
    return status.exitCode === 126 || status.exitCode === 127 ? 'StartError' : 'Unknown'
  return status.exitCode === 0 ? 'Completed' : 'Error'
}

/** RFC 3339 with nanoseconds; docker's zero time for "never". */
export function time(ns: string): string {
  if (ns === '0' || ns === '') return '0001-01-01T00:00:00Z'
  const value = BigInt(ns)
  const date = new Date(Number(value / 1_000_000n)).toISOString()
  return `${date.slice(0, 19)}.${String(value % 1_000_000_000n).padStart(9, '0')}Z`
}
