#!/bin/bash
# A throwaway machine: systemd as process 1 of its own namespaces, over a copy-on-write view of this
# machine's file system. Used by machine.py: `machine.sh DIR CGROUP`; DIR/deb has the packages, DIR/test
# is run as a service. Everything ends with this process, except for the cgroup.
set -eu
dir=$1 cgroup=$2
if [ "${3:-}" != inside ]; then
    echo $$ >"$cgroup/cgroup.procs"
    exec unshare --mount --pid --cgroup --uts --ipc --net --fork --kill-child "$0" "$dir" "$cgroup" inside
fi
mount --make-rprivate /
mount -t tmpfs tmpfs "$dir/mnt"
mkdir "$dir/mnt/upper" "$dir/mnt/work" "$dir/mnt/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$dir/mnt/upper,workdir=$dir/mnt/work" "$dir/mnt/root"
cd "$dir/mnt/root"
mount -t proc proc proc
# The kernel's settings are those of the machine around: not to be changed from in here.
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
if [ -e proc/sysrq-trigger ]; then
    mount --bind /dev/null proc/sysrq-trigger
fi
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
for d in run tmp dev; do mount -t tmpfs -o mode=755 tmpfs $d; done
for d in null zero full random urandom tty; do
    touch dev/$d
    mount --bind /dev/$d dev/$d
done
mkdir dev/shm dev/pts run/room
mount -t tmpfs tmpfs dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount --bind "$dir/room" run/room
hostname shardkv-deploy
rm -rf var/lib/shardkv etc/shardkv
rm -f etc/systemd/system/*.wants/*
cat >etc/systemd/system/roomtest.service <<END
[Unit]
After=basic.target
[Service]
Type=oneshot
TimeoutStartSec=120
ExecStart=/bin/bash /run/room/test
StandardOutput=file:/run/room/out
StandardError=file:/run/room/out
END
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot . /lib/systemd/systemd \
    --unit=roomtest.service --log-target=null
