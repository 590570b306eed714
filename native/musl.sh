#!/bin/sh
# How a static program is made with musl in place of glibc, which takes half a millisecond to start in a virtual machine (docs/native.md, "Without glibc").
#
#   musl.sh use      yes, or no where there is no musl-dev, or no program comes of it
#   musl.sh compile  what has g++ take musl's headers: its own of C++ before them, the kernel's, which musl has none of, behind
#   musl.sh begin    what is linked before the program's objects
#   musl.sh end      what is linked behind them
set -u
name=$(uname -m)-linux-musl
# libstdc++ asks glibc's headers for their version without looking whether they are there. As in musl.gypi.
define='__GLIBC_PREREQ(major,minor)=0'

compile() {
  echo -nostdinc
  ${CXX:-g++} -xc++ -E -v - </dev/null 2>&1 | sed -n '/^#include </,/^End of/s/^ //p' | awk -v "musl=/usr/include/$name" '
    /\/(c\+\+|gcc|clang)\// { print "-isystem" $0; next }
    { behind = behind "\n-idirafter" $0 }
    END { print "-isystem" musl behind }'
}
begin() { printf '%s\n' -nostdlib "/usr/lib/$name/crt1.o" "/usr/lib/$name/crti.o"; }
end() { printf '%s\n' "/usr/lib/$name/libc.a" -lgcc "/usr/lib/$name/crtn.o"; }

use() {
  [ -f "/usr/lib/$name/libc.a" ] || return 1
  directory=$(mktemp -d) || return 1
  printf '%s\n' '#include <stdio.h>' '#include <linux/mount.h>' '#include <string_view>' \
    'int main(int, char** argv) { return std::string_view(argv[0]).empty() || puts("yes") < 0; }' >"$directory/trial.cc"
  # Words without spaces. Nothing of it stays.
  # shellcheck disable=SC2046
  ${CXX:-g++} -std=c++20 -static -fno-exceptions -D"$define" $(compile) -c "$directory/trial.cc" -o "$directory/trial.o" &&
    ${CXX:-g++} -static $(begin) "$directory/trial.o" $(end) -o "$directory/trial" && "$directory/trial" >"$directory/answer"
  answer=$(cat "$directory/answer" 2>/dev/null)
  rm -rf "$directory"
  [ "$answer" = yes ]
}

case ${1-} in
  use) use 2>/dev/null && echo yes || echo no ;;
  compile | begin | end) "$1" ;;
  *) exit 2 ;;
esac
