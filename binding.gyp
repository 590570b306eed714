{
  "target_defaults": {
    "cflags_cc": ["-std=c++20", "-Wall", "-Wextra", "-Werror", "-O2"],
    "cflags_cc!": ["-std=gnu++17"]
  },
  "targets": [
    {
      "target_name": "berth",
      "sources": ["<!@(ls native/addon/*.cc native/layer/*.cc)"],
      "include_dirs": ["<!@(node -p \"require('node-addon-api').include_dir\")"],
      "cflags_cc": ["-fexceptions"],
      "cflags_cc!": ["-fno-exceptions"],
      "defines": ["NAPI_VERSION=8", "NODE_ADDON_API_CPP_EXCEPTIONS", "NODE_ADDON_API_REQUIRE_BASIC_FINALIZERS"]
    },
    {
      "target_name": "berth-monitor",
      "type": "executable",
      "sources": ["<!@(ls native/common/*.cc native/init/*.cc native/monitor/*.cc)"],
      "cflags_cc": ["-fno-exceptions", "-fno-rtti", "-fno-asynchronous-unwind-tables", "-ffunction-sections", "-fdata-sections"],
      "ldflags": ["-static", "-Wl,--gc-sections"]
    },
    {
      "target_name": "berth-launch",
      "type": "executable",
      "includes": ["native/musl.gypi"],
      "sources": ["<!@(ls native/common/*.cc native/init/*.cc native/launch/*.cc)"],
      "cflags_cc": ["-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics", "-fno-asynchronous-unwind-tables", "-ffunction-sections", "-fdata-sections"],
      "ldflags": ["-static", "-Wl,--gc-sections"]
    },
    {
      "target_name": "berth-front",
      "type": "executable",
      "includes": ["native/musl.gypi"],
      "sources": ["<!@(ls native/front/*.cc)"],
      "cflags_cc": ["-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics", "-fno-asynchronous-unwind-tables", "-ffunction-sections", "-fdata-sections"],
      "ldflags": ["-static", "-s", "-Wl,--gc-sections"]
    },
    {
      "target_name": "berth-pause",
      "type": "executable",
      "sources": ["<!@(ls native/pause/*.cc)"],
      "cflags_cc": ["-fno-exceptions", "-fno-rtti", "-fno-asynchronous-unwind-tables", "-fno-stack-protector", "-ffunction-sections", "-fdata-sections"],
      "ldflags": ["-static", "-s", "-Wl,--gc-sections", "-Wl,--build-id=none"],
      "conditions": [
        ["target_arch=='x64' or target_arch=='arm64'", {
          "defines": ["BERTH_FREESTANDING"],
          "ldflags": ["-nostdlib"]
        }]
      ]
    },
    {
      "target_name": "berth-hold",
      "type": "executable",
      "sources": ["<!@(ls native/hold/*.cc)"],
      "cflags_cc": ["-fno-exceptions", "-fno-rtti", "-fno-asynchronous-unwind-tables", "-fno-stack-protector", "-ffunction-sections", "-fdata-sections"],
      "ldflags": ["-static", "-s", "-Wl,--gc-sections", "-Wl,--build-id=none"],
      "conditions": [
        ["target_arch=='x64' or target_arch=='arm64'", {
          "defines": ["BERTH_FREESTANDING"],
          "ldflags": ["-nostdlib"]
        }]
      ]
    },
    {
      "target_name": "probe",
      "type": "executable",
      "sources": ["<!@(ls rootfs/probe/*.cc)"],
      "cflags_cc": ["-fno-exceptions", "-fno-rtti", "-fno-asynchronous-unwind-tables", "-ffunction-sections", "-fdata-sections"],
      "ldflags": ["-static", "-s", "-Wl,--gc-sections"]
    }
  ]
}
