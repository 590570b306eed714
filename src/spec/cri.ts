// Made by scripts/cri-types.ts from cri.proto. Do not edit.

export interface AttachRequest {
  containerId: string
  stdin: boolean
  tty: boolean
  stdout: boolean
  stderr: boolean
}

export interface AttachResponse {
  url: string
}

export interface AuthConfig {
  username: string
  password: string
  auth: string
  serverAddress: string
  identityToken: string
  registryToken: string
}

export interface CDIDevice {
  name: string
}

export interface Capability {
  addCapabilities: string[]
  dropCapabilities: string[]
  addAmbientCapabilities: string[]
}

export interface CheckpointContainerRequest {
  containerId: string
  location: string
  timeout: string
}

export interface CheckpointPodRequest {
  podSandboxId: string
  outputPath: string
  containerIds: string[]
  options: Record<string, string>
}

export interface Container {
  id: string
  podSandboxId: string
  metadata: ContainerMetadata | null
  image: ImageSpec | null
  imageRef: string
  state: ContainerState
  createdAt: string
  labels: Record<string, string>
  annotations: Record<string, string>
  imageId: string
}

export interface ContainerAttributes {
  id: string
  metadata: ContainerMetadata | null
  labels: Record<string, string>
  annotations: Record<string, string>
}

export interface ContainerConfig {
  metadata: ContainerMetadata | null
  image: ImageSpec | null
  command: string[]
  args: string[]
  workingDir: string
  envs: KeyValue[]
  mounts: Mount[]
  devices: Device[]
  labels: Record<string, string>
  annotations: Record<string, string>
  logPath: string
  stdin: boolean
  stdinOnce: boolean
  tty: boolean
  linux: LinuxContainerConfig | null
  CDIDevices: CDIDevice[]
  stopSignal: Signal
}

export interface ContainerEventResponse {
  containerId: string
  containerEventType: ContainerEventType
  createdAt: string
  podSandboxStatus: PodSandboxStatus | null
  containersStatuses: ContainerStatus[]
}

export interface ContainerFilter {
  id: string
  state: ContainerStateValue | null
  podSandboxId: string
  labelSelector: Record<string, string>
}

export interface ContainerMetadata {
  name: string
  attempt: number
}

export interface ContainerMetrics {
  containerId: string
  metrics: Metric[]
}

export interface ContainerResources {
  linux: LinuxContainerResources | null
}

export interface ContainerStateValue {
  state: ContainerState
}

export interface ContainerStats {
  attributes: ContainerAttributes | null
  cpu: CpuUsage | null
  memory: MemoryUsage | null
  writableLayer: FilesystemUsage | null
  swap: SwapUsage | null
  io: IoUsage | null
}

export interface ContainerStatsFilter {
  id: string
  podSandboxId: string
  labelSelector: Record<string, string>
}

export interface ContainerStatsRequest {
  containerId: string
}

export interface ContainerStatsResponse {
  stats: ContainerStats | null
}

export interface ContainerStatus {
  id: string
  metadata: ContainerMetadata | null
  state: ContainerState
  createdAt: string
  startedAt: string
  finishedAt: string
  exitCode: number
  image: ImageSpec | null
  imageRef: string
  reason: string
  message: string
  labels: Record<string, string>
  annotations: Record<string, string>
  mounts: Mount[]
  logPath: string
  resources: ContainerResources | null
  imageId: string
  user: ContainerUser | null
  stopSignal: Signal
}

export interface ContainerStatusRequest {
  containerId: string
  verbose: boolean
}

export interface ContainerStatusResponse {
  status: ContainerStatus | null
  info: Record<string, string>
}

export interface ContainerUser {
  linux: LinuxContainerUser | null
}

export interface CpuUsage {
  timestamp: string
  usageCoreNanoSeconds: UInt64Value | null
  usageNanoCores: UInt64Value | null
  psi: PsiStats | null
}

export interface CreateContainerRequest {
  podSandboxId: string
  config: ContainerConfig | null
  sandboxConfig: PodSandboxConfig | null
}

export interface CreateContainerResponse {
  containerId: string
}

export interface DNSConfig {
  servers: string[]
  searches: string[]
  options: string[]
}

export interface Device {
  containerPath: string
  hostPath: string
  permissions: string
}

export interface ExecRequest {
  containerId: string
  cmd: string[]
  tty: boolean
  stdin: boolean
  stdout: boolean
  stderr: boolean
}

export interface ExecResponse {
  url: string
}

export interface ExecSyncRequest {
  containerId: string
  cmd: string[]
  timeout: string
}

export interface ExecSyncResponse {
  stdout: Buffer
  stderr: Buffer
  exitCode: number
}

export interface FilesystemIdentifier {
  mountpoint: string
}

export interface FilesystemUsage {
  timestamp: string
  fsId: FilesystemIdentifier | null
  usedBytes: UInt64Value | null
  inodesUsed: UInt64Value | null
}

export interface HugepageLimit {
  pageSize: string
  limit: string
}

export interface IDMapping {
  hostId: number
  containerId: number
  length: number
}

export interface Image {
  id: string
  repoTags: string[]
  repoDigests: string[]
  size: string
  uid: Int64Value | null
  username: string
  spec: ImageSpec | null
  pinned: boolean
}

export interface ImageFilter {
  image: ImageSpec | null
}

export interface ImageFsInfoResponse {
  imageFilesystems: FilesystemUsage[]
  containerFilesystems: FilesystemUsage[]
}

export interface ImageSpec {
  image: string
  annotations: Record<string, string>
  userSpecifiedImage: string
  runtimeHandler: string
  imageRef: string
}

export interface ImageStatusRequest {
  image: ImageSpec | null
  verbose: boolean
}

export interface ImageStatusResponse {
  image: Image | null
  info: Record<string, string>
}

export interface Int64Value {
  value: string
}

export interface IoUsage {
  timestamp: string
  psi: PsiStats | null
}

export interface KeyValue {
  key: string
  value: Buffer
}

export interface LinuxContainerConfig {
  resources: LinuxContainerResources | null
  securityContext: LinuxContainerSecurityContext | null
}

export interface LinuxContainerResources {
  cpuPeriod: string
  cpuQuota: string
  cpuShares: string
  memoryLimitInBytes: string
  oomScoreAdj: string
  cpusetCpus: string
  cpusetMems: string
  hugepageLimits: HugepageLimit[]
  unified: Record<string, string>
  memorySwapLimitInBytes: string
}

export interface LinuxContainerSecurityContext {
  capabilities: Capability | null
  privileged: boolean
  namespaceOptions: NamespaceOption | null
  selinuxOptions: SELinuxOption | null
  runAsUser: Int64Value | null
  runAsGroup: Int64Value | null
  runAsUsername: string
  readonlyRootfs: boolean
  supplementalGroups: string[]
  supplementalGroupsPolicy: SupplementalGroupsPolicy
  noNewPrivs: boolean
  maskedPaths: string[]
  readonlyPaths: string[]
  seccomp: SecurityProfile | null
  apparmor: SecurityProfile | null
  apparmorProfile: string
  seccompProfilePath: string
}

export interface LinuxContainerUser {
  uid: string
  gid: string
  supplementalGroups: string[]
}

export interface LinuxPodSandboxConfig {
  cgroupParent: string
  securityContext: LinuxSandboxSecurityContext | null
  sysctls: Record<string, string>
  overhead: LinuxContainerResources | null
  resources: LinuxContainerResources | null
}

export interface LinuxPodSandboxStats {
  cpu: CpuUsage | null
  memory: MemoryUsage | null
  network: NetworkUsage | null
  process: ProcessUsage | null
  containers: ContainerStats[]
  io: IoUsage | null
}

export interface LinuxPodSandboxStatus {
  namespaces: Namespace | null
}

export interface LinuxRuntimeConfiguration {
  cgroupDriver: CgroupDriver
}

export interface LinuxSandboxSecurityContext {
  namespaceOptions: NamespaceOption | null
  selinuxOptions: SELinuxOption | null
  runAsUser: Int64Value | null
  runAsGroup: Int64Value | null
  readonlyRootfs: boolean
  supplementalGroups: string[]
  supplementalGroupsPolicy: SupplementalGroupsPolicy
  privileged: boolean
  seccomp: SecurityProfile | null
  apparmor: SecurityProfile | null
  seccompProfilePath: string
}

export interface ListContainerStatsRequest {
  filter: ContainerStatsFilter | null
}

export interface ListContainerStatsResponse {
  stats: ContainerStats[]
}

export interface ListContainersRequest {
  filter: ContainerFilter | null
}

export interface ListContainersResponse {
  containers: Container[]
}

export interface ListImagesRequest {
  filter: ImageFilter | null
}

export interface ListImagesResponse {
  images: Image[]
}

export interface ListMetricDescriptorsResponse {
  descriptors: MetricDescriptor[]
}

export interface ListPodSandboxMetricsResponse {
  podMetrics: PodSandboxMetrics[]
}

export interface ListPodSandboxRequest {
  filter: PodSandboxFilter | null
}

export interface ListPodSandboxResponse {
  items: PodSandbox[]
}

export interface ListPodSandboxStatsRequest {
  filter: PodSandboxStatsFilter | null
}

export interface ListPodSandboxStatsResponse {
  stats: PodSandboxStats[]
}

export interface MemoryUsage {
  timestamp: string
  workingSetBytes: UInt64Value | null
  availableBytes: UInt64Value | null
  usageBytes: UInt64Value | null
  rssBytes: UInt64Value | null
  pageFaults: UInt64Value | null
  majorPageFaults: UInt64Value | null
  psi: PsiStats | null
}

export interface Metric {
  name: string
  timestamp: string
  metricType: MetricType
  labelValues: string[]
  value: UInt64Value | null
}

export interface MetricDescriptor {
  name: string
  help: string
  labelKeys: string[]
}

export interface Mount {
  containerPath: string
  hostPath: string
  readonly: boolean
  selinuxRelabel: boolean
  propagation: MountPropagation
  uidMappings: IDMapping[]
  gidMappings: IDMapping[]
  recursiveReadOnly: boolean
  image: ImageSpec | null
  imageSubPath: string
  mountOptions: string[]
}

export interface Namespace {
  options: NamespaceOption | null
}

export interface NamespaceOption {
  network: NamespaceMode
  pid: NamespaceMode
  ipc: NamespaceMode
  targetId: string
  usernsOptions: UserNamespace | null
}

export interface NetworkConfig {
  podCidr: string
}

export interface NetworkInterfaceUsage {
  name: string
  rxBytes: UInt64Value | null
  rxErrors: UInt64Value | null
  txBytes: UInt64Value | null
  txErrors: UInt64Value | null
}

export interface NetworkUsage {
  timestamp: string
  defaultInterface: NetworkInterfaceUsage | null
  interfaces: NetworkInterfaceUsage[]
}

export interface PodIP {
  ip: string
}

export interface PodSandbox {
  id: string
  metadata: PodSandboxMetadata | null
  state: PodSandboxState
  createdAt: string
  labels: Record<string, string>
  annotations: Record<string, string>
  runtimeHandler: string
}

export interface PodSandboxAttributes {
  id: string
  metadata: PodSandboxMetadata | null
  labels: Record<string, string>
  annotations: Record<string, string>
}

export interface PodSandboxConfig {
  metadata: PodSandboxMetadata | null
  hostname: string
  logDirectory: string
  dnsConfig: DNSConfig | null
  portMappings: PortMapping[]
  labels: Record<string, string>
  annotations: Record<string, string>
  linux: LinuxPodSandboxConfig | null
}

export interface PodSandboxFilter {
  id: string
  state: PodSandboxStateValue | null
  labelSelector: Record<string, string>
}

export interface PodSandboxMetadata {
  name: string
  uid: string
  namespace: string
  attempt: number
}

export interface PodSandboxMetrics {
  podSandboxId: string
  metrics: Metric[]
  containerMetrics: ContainerMetrics[]
}

export interface PodSandboxNetworkStatus {
  ip: string
  additionalIps: PodIP[]
}

export interface PodSandboxStateValue {
  state: PodSandboxState
}

export interface PodSandboxStats {
  attributes: PodSandboxAttributes | null
  linux: LinuxPodSandboxStats | null
}

export interface PodSandboxStatsFilter {
  id: string
  labelSelector: Record<string, string>
}

export interface PodSandboxStatsRequest {
  podSandboxId: string
}

export interface PodSandboxStatsResponse {
  stats: PodSandboxStats | null
}

export interface PodSandboxStatus {
  id: string
  metadata: PodSandboxMetadata | null
  state: PodSandboxState
  createdAt: string
  network: PodSandboxNetworkStatus | null
  linux: LinuxPodSandboxStatus | null
  labels: Record<string, string>
  annotations: Record<string, string>
  runtimeHandler: string
}

export interface PodSandboxStatusRequest {
  podSandboxId: string
  verbose: boolean
}

export interface PodSandboxStatusResponse {
  status: PodSandboxStatus | null
  info: Record<string, string>
  containersStatuses: ContainerStatus[]
  timestamp: string
}

export interface PortForwardRequest {
  podSandboxId: string
  port: number[]
}

export interface PortForwardResponse {
  url: string
}

export interface PortMapping {
  protocol: Protocol
  containerPort: number
  hostPort: number
  hostIp: string
}

export interface ProcessUsage {
  timestamp: string
  processCount: UInt64Value | null
}

export interface PsiData {
  Total: string
  Avg10: number
  Avg60: number
  Avg300: number
}

export interface PsiStats {
  Full: PsiData | null
  Some: PsiData | null
}

export interface PullImageRequest {
  image: ImageSpec | null
  auth: AuthConfig | null
  sandboxConfig: PodSandboxConfig | null
}

export interface PullImageResponse {
  imageRef: string
}

export interface RemoveContainerRequest {
  containerId: string
}

export interface RemoveImageRequest {
  image: ImageSpec | null
}

export interface RemovePodSandboxRequest {
  podSandboxId: string
}

export interface ReopenContainerLogRequest {
  containerId: string
}

export interface RestorePodRequest {
  checkpointPath: string
  config: PodSandboxConfig | null
  runtimeHandler: string
  options: Record<string, string>
  containerConfigs: ContainerConfig[]
}

export interface RestorePodResponse {
  podSandboxId: string
  restoredContainers: RestoredContainer[]
}

export interface RestoredContainer {
  name: string
  containerId: string
}

export interface RunPodSandboxRequest {
  config: PodSandboxConfig | null
  runtimeHandler: string
}

export interface RunPodSandboxResponse {
  podSandboxId: string
}

export interface RuntimeCondition {
  type: string
  status: boolean
  reason: string
  message: string
}

export interface RuntimeConfig {
  networkConfig: NetworkConfig | null
}

export interface RuntimeConfigResponse {
  linux: LinuxRuntimeConfiguration | null
}

export interface RuntimeFeatures {
  supplementalGroupsPolicy: boolean
  userNamespacesHostNetwork: boolean
  mountOptions: boolean
}

export interface RuntimeHandler {
  name: string
  features: RuntimeHandlerFeatures | null
}

export interface RuntimeHandlerFeatures {
  recursiveReadOnlyMounts: boolean
  userNamespaces: boolean
}

export interface RuntimeStatus {
  conditions: RuntimeCondition[]
}

export interface SELinuxOption {
  user: string
  role: string
  type: string
  level: string
}

export interface SecurityProfile {
  profileType: ProfileType
  localhostRef: string
}

export interface StartContainerRequest {
  containerId: string
}

export interface StatusRequest {
  verbose: boolean
}

export interface StatusResponse {
  status: RuntimeStatus | null
  info: Record<string, string>
  runtimeHandlers: RuntimeHandler[]
  features: RuntimeFeatures | null
}

export interface StopContainerRequest {
  containerId: string
  timeout: string
}

export interface StopPodSandboxRequest {
  podSandboxId: string
}

export interface StreamContainerStatsRequest {
  filter: ContainerStatsFilter | null
}

export interface StreamContainerStatsResponse {
  containerStats: ContainerStats[]
}

export interface StreamContainersRequest {
  filter: ContainerFilter | null
}

export interface StreamContainersResponse {
  containers: Container[]
}

export interface StreamImagesRequest {
  filter: ImageFilter | null
}

export interface StreamImagesResponse {
  images: Image[]
}

export interface StreamPodSandboxMetricsResponse {
  podSandboxMetrics: PodSandboxMetrics[]
}

export interface StreamPodSandboxStatsRequest {
  filter: PodSandboxStatsFilter | null
}

export interface StreamPodSandboxStatsResponse {
  podSandboxStats: PodSandboxStats[]
}

export interface StreamPodSandboxesRequest {
  filter: PodSandboxFilter | null
}

export interface StreamPodSandboxesResponse {
  podSandboxes: PodSandbox[]
}

export interface SwapUsage {
  timestamp: string
  swapAvailableBytes: UInt64Value | null
  swapUsageBytes: UInt64Value | null
}

export interface UInt64Value {
  value: string
}

export interface UpdateContainerResourcesRequest {
  containerId: string
  linux: LinuxContainerResources | null
  annotations: Record<string, string>
}

export interface UpdatePodSandboxResourcesRequest {
  podSandboxId: string
  overhead: LinuxContainerResources | null
  resources: LinuxContainerResources | null
}

export interface UpdateRuntimeConfigRequest {
  runtimeConfig: RuntimeConfig | null
}

export interface UserNamespace {
  mode: NamespaceMode
  uids: IDMapping[]
  gids: IDMapping[]
}

export interface VersionRequest {
  version: string
}

export interface VersionResponse {
  version: string
  runtimeName: string
  runtimeVersion: string
  runtimeApiVersion: string
}

export type CgroupDriver = 'SYSTEMD' | 'CGROUPFS'

export type CheckpointContainerResponse = Record<string, never>

export type CheckpointPodResponse = Record<string, never>

export type ContainerEventType =
  | 'CONTAINER_CREATED_EVENT'
  | 'CONTAINER_STARTED_EVENT'
  | 'CONTAINER_STOPPED_EVENT'
  | 'CONTAINER_DELETED_EVENT'

export type ContainerState =
  | 'CONTAINER_CREATED'
  | 'CONTAINER_RUNNING'
  | 'CONTAINER_EXITED'
  | 'CONTAINER_UNKNOWN'

export type GetEventsRequest = Record<string, never>

export type ImageFsInfoRequest = Record<string, never>

export type ListMetricDescriptorsRequest = Record<string, never>

export type ListPodSandboxMetricsRequest = Record<string, never>

export type MetricType = 'COUNTER' | 'GAUGE'

export type MountPropagation =
  | 'PROPAGATION_PRIVATE'
  | 'PROPAGATION_HOST_TO_CONTAINER'
  | 'PROPAGATION_BIDIRECTIONAL'

export type NamespaceMode = 'POD' | 'CONTAINER' | 'NODE' | 'TARGET'

export type PodSandboxState = 'SANDBOX_READY' | 'SANDBOX_NOTREADY'

export type ProfileType = 'RuntimeDefault' | 'Unconfined' | 'Localhost'

export type Protocol = 'TCP' | 'UDP' | 'SCTP'

export type RemoveContainerResponse = Record<string, never>

export type RemoveImageResponse = Record<string, never>

export type RemovePodSandboxResponse = Record<string, never>

export type ReopenContainerLogResponse = Record<string, never>

export type RuntimeConfigRequest = Record<string, never>

export type Signal =
  | 'SIGNAL_RUNTIME_DEFAULT'
  | 'SIGNAL_SIGABRT'
  | 'SIGNAL_SIGALRM'
  | 'SIGNAL_SIGBUS'
  | 'SIGNAL_SIGCHLD'
  | 'SIGNAL_SIGCLD'
  | 'SIGNAL_SIGCONT'
  | 'SIGNAL_SIGFPE'
  | 'SIGNAL_SIGHUP'
  | 'SIGNAL_SIGILL'
  | 'SIGNAL_SIGINT'
  | 'SIGNAL_SIGIO'
  | 'SIGNAL_SIGIOT'
  | 'SIGNAL_SIGKILL'
  | 'SIGNAL_SIGPIPE'
  | 'SIGNAL_SIGPOLL'
  | 'SIGNAL_SIGPROF'
  | 'SIGNAL_SIGPWR'
  | 'SIGNAL_SIGQUIT'
  | 'SIGNAL_SIGSEGV'
  | 'SIGNAL_SIGSTKFLT'
  | 'SIGNAL_SIGSTOP'
  | 'SIGNAL_SIGSYS'
  | 'SIGNAL_SIGTERM'
  | 'SIGNAL_SIGTRAP'
  | 'SIGNAL_SIGTSTP'
  | 'SIGNAL_SIGTTIN'
  | 'SIGNAL_SIGTTOU'
  | 'SIGNAL_SIGURG'
  | 'SIGNAL_SIGUSR1'
  | 'SIGNAL_SIGUSR2'
  | 'SIGNAL_SIGVTALRM'
  | 'SIGNAL_SIGWINCH'
  | 'SIGNAL_SIGXCPU'
  | 'SIGNAL_SIGXFSZ'
  | 'SIGNAL_SIGRTMIN'
  | 'SIGNAL_SIGRTMINPLUS1'
  | 'SIGNAL_SIGRTMINPLUS2'
  | 'SIGNAL_SIGRTMINPLUS3'
  | 'SIGNAL_SIGRTMINPLUS4'
  | 'SIGNAL_SIGRTMINPLUS5'
  | 'SIGNAL_SIGRTMINPLUS6'
  | 'SIGNAL_SIGRTMINPLUS7'
  | 'SIGNAL_SIGRTMINPLUS8'
  | 'SIGNAL_SIGRTMINPLUS9'
  | 'SIGNAL_SIGRTMINPLUS10'
  | 'SIGNAL_SIGRTMINPLUS11'
  | 'SIGNAL_SIGRTMINPLUS12'
  | 'SIGNAL_SIGRTMINPLUS13'
  | 'SIGNAL_SIGRTMINPLUS14'
  | 'SIGNAL_SIGRTMINPLUS15'
  | 'SIGNAL_SIGRTMAXMINUS14'
  | 'SIGNAL_SIGRTMAXMINUS13'
  | 'SIGNAL_SIGRTMAXMINUS12'
  | 'SIGNAL_SIGRTMAXMINUS11'
  | 'SIGNAL_SIGRTMAXMINUS10'
  | 'SIGNAL_SIGRTMAXMINUS9'
  | 'SIGNAL_SIGRTMAXMINUS8'
  | 'SIGNAL_SIGRTMAXMINUS7'
  | 'SIGNAL_SIGRTMAXMINUS6'
  | 'SIGNAL_SIGRTMAXMINUS5'
  | 'SIGNAL_SIGRTMAXMINUS4'
  | 'SIGNAL_SIGRTMAXMINUS3'
  | 'SIGNAL_SIGRTMAXMINUS2'
  | 'SIGNAL_SIGRTMAXMINUS1'
  | 'SIGNAL_SIGRTMAX'

export type StartContainerResponse = Record<string, never>

export type StopContainerResponse = Record<string, never>

export type StopPodSandboxResponse = Record<string, never>

export type StreamPodSandboxMetricsRequest = Record<string, never>

export type SupplementalGroupsPolicy = 'Merge' | 'Strict'

export type UpdateContainerResourcesResponse = Record<string, never>

export type UpdatePodSandboxResourcesResponse = Record<string, never>

export type UpdateRuntimeConfigResponse = Record<string, never>
