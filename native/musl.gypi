{
  "variables": {
    "musl%": "<!(sh native/musl.sh use)"
  },
  "conditions": [
    ["musl=='yes'", {
      "defines": ["__GLIBC_PREREQ(major,minor)=0"],
      "cflags_cc": ["<!@(sh native/musl.sh compile)"],
      "ldflags": ["<!@(sh native/musl.sh begin)"],
      "libraries": ["<!@(sh native/musl.sh end)"]
    }]
  ]
}
