/** What is being made says something else to berth-launch than our own code does: it was taken over by ptrace(2), in a PID namespace that it has joined. */
import { spawnSync } from 'node:child_process'
import { readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { encodeContainer } from '../../src/wire/plan.ts'
import { REPOSITORY } from '../lib/images.ts'
import { Place, probe } from '../lib/inside.ts'
import { needs } from '../lib/needs.ts'
import { traces } from '../lib/traces.ts'

needs('root', 'program:g++', 'program:unshare')

/** In the place of native/init/launch.cc's: a child that lies. */
const LIAR = `
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "${REPOSITORY}/native/init/clone.h"
#include "${REPOSITORY}/native/init/launch.h"
#include "${REPOSITORY}/native/init/sync.h"
namespace berth {
namespace {
void SendProcess(pid_t pid) { SendPid(pid, static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))); }
void Lie(const char* lie) {
  if (::strcmp(lie, "nobody") == 0) return SendPid(1, ::open("/dev/null", O_RDONLY));
  const pid_t own = ::fork();
  if (own == 0) for (;;) ::pause();
  SendProcess(own);
  SendProcess(::atoi(::getenv("VICTIM")));
}
}  // namespace
bool LaunchContainer(const ContainerPlan&, const ChildStdio&, Launched* launched, const char**) {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) return false;
  int pidfd = -1;
  const pid_t pid = CloneInto(0, &pidfd, -1);
  if (pid == 0) {
    SetSync(pair[1]);
    Lie(::getenv("LIE"));
    Die(EIO, "lie", "told");
  }
  launched->pid = pid;
  launched->pidfd = Fd(pidfd);
  launched->sync = Fd(pair[0]);
  ::close(pair[1]);
  return pid > 0;
}
}  // namespace berth
`

/** In a PID namespace: what the launch must not kill is not the whole machine. */
const SCRIPT = `
sleep 1000 & export VICTIM=$!
mkfifo commands
"$0" create 3>&1 4<>commands 5<plan 6<. 7<&0 8>&1 9>&2
rm commands start
kill -0 $VICTIM && grep -q '^State:.S' /proc/$VICTIM/status && echo alive
`

const place = new Place()
const clean = traces({ roots: [place.directory] })
const program = place.path('launch')

test('the test build compiles', () => {
  const main = place.path('liar.cc')
  writeFileSync(main, LIAR)
  const sources = ['launch', 'common', 'init'].flatMap((folder) =>
    readdirSync(join(REPOSITORY, 'native', folder))
      .filter((name) => name.endsWith('.cc'))
      .map((name) => join(REPOSITORY, 'native', folder, name)),
  )
  const flags = ['-std=c++20', '-O0', '-static', '-fno-exceptions', '-fno-rtti']
  const linked = ['-Wl,--allow-multiple-definition', '-o', program, main, ...sources]
  const done = spawnSync('g++', [...flags, ...linked], { encoding: 'utf8' })
  assert.is(done.status, 0, done.stderr)
  writeFileSync(place.path('plan'), encodeContainer(place.plan(probe('echo', 'ran'))))
})

for (const [lie, complaint] of [
  ['nobody', /killed while it was being made/],
  ['twice', /said something unknown/],
] as const) {
  test(`a process that is ${lie === 'twice' ? 'told of twice' : 'no process'} has nobody killed`, () => {
    const { stdout, stderr } = spawnSync(
      'unshare',
      ['--pid', '--fork', '--mount-proc', '--kill-child', 'sh', '-c', SCRIPT, program],
      { encoding: 'utf8', cwd: place.directory, env: { ...process.env, LIE: lie } },
    )
    assert.match(stdout, complaint, stderr)
    assert.match(stdout, /^alive$/m)
  })
}

test('nothing is left behind', async () => {
  await clean()
  place.remove()
})
test.run()
