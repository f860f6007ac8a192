#!/bin/bash
# Run by machine.sh as a service of the throwaway machine: each line is what machine.py looks for.
set -u
cd /
echo "begin"
export KV_URL=kv://127.0.0.1:7101
say() { printf '%s: %s\n' "$1" "$(shift && "$@" 2>&1 | tr '\n' ' ')"; }
# A sandboxed service that has nothing to do with ours: can this machine run one at all?
cat >/run/systemd/system/control.service <<END
[Service]
Type=oneshot
ExecStart=/bin/true
User=nobody
ProtectSystem=strict
PrivateDevices=yes
PrivateTmp=yes
PrivateIPC=yes
ProtectProc=invisible
SystemCallFilter=@system-service
END
systemctl daemon-reload
systemctl start control
say control echo $?
dpkg -i /run/room/*.deb >/run/room/dpkg 2>&1
say dpkg echo $?
systemctl enable --now shardkv.target placementd shardd
say started systemctl is-active placementd shardd
say status systemctl show -P StatusText placementd shardd
say init kvctl cluster init --groups 2 --replicas 1
say put kvctl --timeout 10s put a b
say sandbox grep -E '^(CapEff|NoNewPrivs|Seccomp):' "/proc/$(systemctl show -P MainPID shardd)/status"
sed -i 's/^#level = .*/level = "debug"/; s/^#zone = .*/zone = "z1"/' /etc/shardkv/shardd.toml
systemctl reload shardd
say reloaded systemctl is-active shardd
say reload_log journalctl -u shardd -o cat --grep reload
say warnings journalctl -u shardd -o cat -p warning
systemctl restart shardd
say restarted kvctl --timeout 10s get a
systemctl kill -s KILL shardd
for _ in $(seq 100); do
    [ "$(systemctl show -P NRestarts shardd)" = 1 ] && systemctl -q is-active shardd && break
    sleep 0.1
done
say killed systemctl show -P ActiveState -P NRestarts shardd
say after_kill kvctl --timeout 10s get a
sed -i 's/^zone = .*/znoe = "z1"/' /etc/shardkv/shardd.toml
systemctl restart shardd
sleep 3
say mistake systemctl show -P ActiveState -P NRestarts -P ExecMainStatus shardd
sed -i '/^znoe/d' /etc/shardkv/shardd.toml
systemctl reset-failed shardd
systemctl start shardd
sed 's/"n1"/"n2"/; s|/shardkv/shardd"|/shardkv/shardd@two"|; s/7003/7013/
    s/#client = .*/client = "127.0.0.1:7011"/; s/#peer = .*/peer = "127.0.0.1:7012"/' \
    /etc/shardkv/shardd.toml >/etc/shardkv/shardd@two.toml
systemctl start shardd@two
say instance systemctl is-active shardd@two
say modes stat -c '%n %a %U' /var/lib/shardkv /var/lib/shardkv/shardd /var/lib/shardkv/shardd@two
say nodes kvctl -o plain nodes
dpkg --remove shardkv-server >/run/room/dpkg 2>&1
say removed echo $?
say stopped systemctl show -P Result -P ActiveState placementd shardd shardd@two
say data ls /var/lib/shardkv
echo "end"
