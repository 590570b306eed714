#!/bin/bash
# PID 1 of the machine that scripts/vm.ts boots: makes a pure cgroup v2 host of the host's own file tree (read-only), runs one
# command, and leaves its output and exit status in the exchange directory, the only place of the host it can write to.
# The kernel hands on what vm.ts gives on its command line as our environment: BERTH_VM_EXCHANGE, BERTH_VM_REPOSITORY, BERTH_VM_MODULES, BERTH_VM_INIT.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm /dev/mqueue
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t mqueue mqueue /dev/mqueue 2>/dev/null
[ -e /dev/fd ] || ln -s /proc/self/fd /dev/fd

# The tree as the host has it stays visible at /run/host, for the repository may lie where a tmpfs will hide it.
mount --make-rprivate /
mount --bind / /mnt
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/host /run/exchange /run/modules/lib/modules
mount --move /mnt /run/host
# Its path is no option that newer mount(8) could give one by one.
LIBMOUNT_FORCE_MOUNT2=always mount -t hostfs -o "$BERTH_VM_EXCHANGE" none /run/exchange || exit 1
exec >>/run/exchange/boot 2>&1
for directory in /tmp /var/lib /var/tmp; do
  # The machine's programs look into /var/lib for little; what they need is bound back below.
  mount -t tmpfs -o mode=1777,size=75% tmpfs "$directory"
done
chmod 755 /var/lib
for directory in "$BERTH_VM_REPOSITORY" "$(dirname "$BERTH_VM_MODULES")"; do
  [ -d "$directory" ] || { mkdir -p "$directory" && mount --bind "/run/host$directory" "$directory"; }
done

mount -t cgroup2 -o nosuid,nodev,noexec,nsdelegate cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf 2>/dev/null
# Modules come on demand, as on any machine, but from the folder of this kernel's package.
ln -s "$BERTH_VM_MODULES" "/run/modules/lib/modules/$(uname -r)"
printf '#!/bin/sh\nexec modprobe -d /run/modules "$@"\n' >/run/modprobe
chmod 755 /run/modprobe
echo /run/modprobe >/proc/sys/kernel/modprobe
for module in overlay veth bridge loop fuse zram; do /run/modprobe -q "$module"; done
# Before Linux 6.6 a tmpfs has neither id maps nor user.* attributes: tests need a disk's file system for their files.
temporary=/tmp
if [ "$(printf '6.6\n%s\n' "$(uname -r)" | sort -V | head -n 1)" != 6.6 ] && [ -x /sbin/mkfs.ext4 ]; then
  truncate -s 1G /var/lib/disk && mkfs.ext4 -q -O ^has_journal /var/lib/disk && mkdir -p /run/disk &&
    mount -o loop /var/lib/disk /run/disk && chmod 1777 /run/disk && temporary=/run/disk
fi
ip link set lo up
hostname berth-vm
mount -o remount,rw /proc/sys 2>/dev/null
echo "booted: $(cut -d' ' -f1 /proc/uptime) s"

cat >/run/command <<END
#!/bin/bash
mapfile -d '' -t environment </run/exchange/environment
mapfile -d '' -t command </run/exchange/command
cd "$BERTH_VM_REPOSITORY" || exit 1
# The output is a file of the host that vm.ts follows.
env -i "\${environment[@]}" TMPDIR=$temporary "\${command[@]}" </dev/null >>/run/exchange/output 2>&1
echo \$? >/run/exchange/status.new
mv /run/exchange/status.new /run/exchange/status
sync
echo o >/proc/sysrq-trigger
END
chmod 755 /run/command
if [ "$BERTH_VM_INIT" = systemd ]; then
  # The machine's own, with one unit that needs no other; what is mounted it leaves as it is.
  mkdir -p /run/systemd/system
  cat >/run/systemd/system/berth-vm.service <<END
[Unit]
DefaultDependencies=no
[Service]
Type=exec
ExecStart=/run/command
StandardOutput=append:/run/exchange/boot
StandardError=append:/run/exchange/boot
Delegate=yes
END
  exec /lib/systemd/systemd --unit=berth-vm.service
fi
# Not as PID 1, which would have to reap.
/run/command
# vm.ts ends the machine when it sees the status; an init that ends would be a kernel panic.
while :; do sleep 60; done
