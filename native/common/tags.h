// The numbers of all fields and frames, as in src/wire/tags.ts (a tidy test compares the two files).
#ifndef BERTH_COMMON_TAGS_H_
#define BERTH_COMMON_TAGS_H_

#include <cstdint>

namespace berth {

enum class Tag : uint16_t {
  // IdMap, IdMappings
  kIdInside = 1,
  kIdOutside = 2,
  kIdSize = 3,
  kIdUid = 4,
  kIdGid = 5,
  // NamespacePlan
  kNamespaceFlag = 10,
  kNamespacePath = 11,
  // RootPlan
  kRootOverlay = 20,
  kRootLower = 21,
  kRootUpper = 22,
  kRootWork = 23,
  kRootOption = 24,
  kRootDirectory = 25,
  // MountPlan
  kMountKind = 30,
  kMountSource = 31,
  kMountTarget = 32,
  kMountType = 33,
  kMountOption = 34,
  kMountSetAttributes = 35,
  kMountClearAttributes = 36,
  kMountSetAttributesRecursive = 37,
  kMountClearAttributesRecursive = 38,
  kMountPropagation = 39,
  kMountRecursive = 40,
  kMountIdmapContainer = 41,
  kMountIdmap = 42,
  kMountCopyUp = 43,
  kMountOptional = 44,
  // DevicePlan
  kDeviceTarget = 50,
  kDeviceType = 51,
  kDeviceMajor = 52,
  kDeviceMinor = 53,
  kDeviceMode = 54,
  kDeviceUid = 55,
  kDeviceGid = 56,
  // links, sysctls
  kLinkTarget = 60,
  kLinkTo = 61,
  kSysctlName = 62,
  kSysctlValue = 63,
  // ProcessPlan
  kProcessArg = 70,
  kProcessEnv = 71,
  kProcessCwd = 72,
  kProcessCreateCwd = 73,
  kProcessUid = 74,
  kProcessGid = 75,
  kProcessGroup = 76,
  kProcessUmask = 77,
  kProcessTerminal = 78,
  kProcessRows = 79,
  kProcessColumns = 80,
  kProcessCapBounding = 81,
  kProcessCapEffective = 82,
  kProcessCapPermitted = 83,
  kProcessCapInheritable = 84,
  kProcessCapAmbient = 85,
  kProcessNoNewPrivileges = 86,
  kProcessRlimit = 87,
  kProcessSeccompProgram = 88,
  kProcessSeccompFlags = 89,
  kProcessOomScoreAdj = 90,
  kProcessApparmor = 91,
  kProcessSelinux = 92,
  // RlimitPlan
  kRlimitResource = 95,
  kRlimitSoft = 96,
  kRlimitHard = 97,
  // ContainerPlan
  kContainerId = 100,
  kContainerCgroup = 101,
  kContainerNamespace = 102,
  kContainerIdMappings = 103,
  kContainerMonotonicSeconds = 104,
  kContainerMonotonicNanoseconds = 105,
  kContainerBoottimeSeconds = 106,
  kContainerBoottimeNanoseconds = 107,
  kContainerHostname = 108,
  kContainerDomainname = 109,
  kContainerRoot = 110,
  kContainerRootReadonly = 111,
  kContainerRootPropagation = 112,
  kContainerMount = 113,
  kContainerDevice = 114,
  kContainerLink = 115,
  kContainerSysctl = 116,
  kContainerMasked = 117,
  kContainerReadonly = 118,
  kContainerLoopback = 119,
  kContainerReaper = 120,
  kContainerProcess = 121,
  kContainerStdin = 122,
  kContainerStdinOnce = 123,
  kContainerLogKind = 124,
  kContainerLogPath = 125,
  kContainerExitRecord = 126,
  kContainerExitCommand = 127,
  kContainerRestartPolicy = 128,
  kContainerRestartMaximum = 129,
  // requests to a monitor
  kRequestId = 150,
  kRequestPlanPath = 151,
  kRequestSignal = 152,
  kRequestAll = 153,
  kRequestStdin = 154,
  kRequestStdout = 155,
  kRequestStderr = 156,
  kRequestProcess = 157,
  kRequestTimeoutMs = 158,
  kRequestDetach = 159,
  kRequestUserNamespace = 160,
  kRequestExecId = 161,
  kRequestRestartPolicy = 162,
  kRequestRestartMaximum = 163,
};

enum class Frame : uint8_t {
  kCreate = 1,
  kStart = 2,
  kSignal = 3,
  kAttach = 4,
  kExec = 5,
  kStatus = 6,
  kWait = 7,
  kReopenLog = 8,
  kNetworkNamespace = 9,
  kRemove = 10,
  kQuit = 11,
  kUpdate = 12,
  kStdin = 32,
  kStdinClose = 33,
  kResize = 34,
  kReply = 128,
  kStdout = 129,
  kStderr = 130,
  kExit = 131,
};

enum class MountKind : uint8_t { kBind = 0, kNew = 1, kRemount = 2 };
enum class LogKind : uint8_t { kNone = 0, kCri = 1 };
enum class RestartPolicy : uint8_t { kNo = 0, kAlways = 1, kOnFailure = 2, kUnlessStopped = 3 };

}  // namespace berth

#endif  // BERTH_COMMON_TAGS_H_
