import { attachUrl } from './attach.ts'
import { checkpointContainer, checkpointPod, restorePod } from './checkpoint.ts'
import { listContainerStats, statsOfContainer, streamContainerStats } from './container-stats.ts'
import { statusOfContainer } from './container-status.ts'
import { create } from './create-container.ts'
import { execUrl } from './exec.ts'
import { exec } from './exec-sync.ts'
import { getContainerEvents } from './get-container-events.ts'
import { imageFsInfo } from './image-fs-info.ts'
import { statusOfImage } from './image-status.ts'
import { listContainers, streamContainers } from './list-containers.ts'
import { list, streamImages } from './list-images.ts'
import { listPodSandbox, streamPodSandboxes } from './list-pod-sandbox.ts'
import { listMetricDescriptors, listPodSandboxMetrics, streamPodSandboxMetrics } from './metrics.ts'
import { listPodSandboxStats, podSandboxStats, streamPodSandboxStats } from './pod-sandbox-stats.ts'
import { sandboxStatus } from './pod-sandbox-status.ts'
import { portForwardUrl } from './port-forward.ts'
import { pull } from './pull-image.ts'
import { remove } from './remove-container.ts'
import { removeOne } from './remove-image.ts'
import { removePodSandbox } from './remove-pod-sandbox.ts'
import { reopenContainerLog } from './reopen-container-log.ts'
import { runPodSandbox } from './run-pod-sandbox.ts'
import { runtimeConfig, updateRuntimeConfig } from './runtime-config.ts'
import { start } from './start-container.ts'
import { status } from './status.ts'
import { stop } from './stop-container.ts'
import { stopPodSandbox } from './stop-pod-sandbox.ts'
import { updateContainerResources } from './update-container-resources.ts'
import { updatePodSandboxResources } from './update-pod-sandbox-resources.ts'
import { version } from './version.ts'

/** Calls with one answer, by their names on the wire. */
export const CALLS = {
  Version: version,
  Status: status,
  RuntimeConfig: runtimeConfig,
  UpdateRuntimeConfig: updateRuntimeConfig,
  RunPodSandbox: runPodSandbox,
  StopPodSandbox: stopPodSandbox,
  RemovePodSandbox: removePodSandbox,
  PodSandboxStatus: sandboxStatus,
  ListPodSandbox: listPodSandbox,
  UpdatePodSandboxResources: updatePodSandboxResources,
  CreateContainer: create,
  StartContainer: start,
  StopContainer: stop,
  RemoveContainer: remove,
  ListContainers: listContainers,
  ContainerStatus: statusOfContainer,
  UpdateContainerResources: updateContainerResources,
  ReopenContainerLog: reopenContainerLog,
  ExecSync: exec,
  Exec: execUrl,
  Attach: attachUrl,
  PortForward: portForwardUrl,
  ContainerStats: statsOfContainer,
  ListContainerStats: listContainerStats,
  PodSandboxStats: podSandboxStats,
  ListPodSandboxStats: listPodSandboxStats,
  ListMetricDescriptors: listMetricDescriptors,
  ListPodSandboxMetrics: listPodSandboxMetrics,
  CheckpointContainer: checkpointContainer,
  CheckpointPod: checkpointPod,
  RestorePod: restorePod,
  ListImages: list,
  ImageStatus: statusOfImage,
  PullImage: pull,
  RemoveImage: removeOne,
  ImageFsInfo: imageFsInfo,
}

/** Calls with a stream of answers. */
export const STREAMS = {
  StreamPodSandboxes: streamPodSandboxes,
  StreamContainers: streamContainers,
  StreamContainerStats: streamContainerStats,
  StreamPodSandboxStats: streamPodSandboxStats,
  StreamPodSandboxMetrics: streamPodSandboxMetrics,
  StreamImages: streamImages,
  GetContainerEvents: getContainerEvents,
}
