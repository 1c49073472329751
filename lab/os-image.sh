#!/usr/bin/env bash
# Makes a small Debian 12 with cloud-init that boots with BIOS and UEFI: OUT (qcow2). Needs root, for the owners of its files.
# GPT: 1 EFI system partition with kernel, syslinux and systemd-boot; 2 root (ext4).
set -euo pipefail
out=$(realpath -m "$1")
work=$(mktemp -d "$(dirname "$out")/os.XXXXXX")
trap 'rm -rf "$work"' EXIT
root=$work/root
esp_mib=80
root_mib=900

# A system whose disk is in the network says so, and cloud-init would then take what the firmware knew of the network instead of the seed.
export SEED_NETWORK=$work/seed-network
cat >"$SEED_NETWORK" <<'S'
#!/bin/sh
case $1 in prereqs) echo iscsi; exit 0 ;; esac
rm -f /run/initramfs/open-iscsi.interface
S

mmdebstrap --quiet --variant=minbase --mode=root --aptopt='APT::Install-Recommends "false"' \
    --include=linux-image-cloud-amd64,systemd-sysv,udev,dbus,openssh-server,cloud-init,cloud-guest-utils,fdisk,e2fsprogs,iproute2,sudo,netcat-openbsd,initramfs-tools,zstd,busybox,open-iscsi,nfs-common \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/i18n/*' \
    --essential-hook='mkdir -p "$1/etc/initramfs-tools/conf.d" && printf "MODULES=list\nCOMPRESS=zstd\n" >"$1/etc/initramfs-tools/conf.d/lab"' \
    --customize-hook='printf "virtio_pci\nvirtio_blk\nvirtio_net\nvirtio_scsi\nsd_mod\nahci\nnvme\next4\n" >>"$1/etc/initramfs-tools/modules"' \
    --customize-hook='printf "modprobe -q iscsi_ibft\n[ ! -d /sys/firmware/ibft ] || ISCSI_AUTO=true\n" >"$1/etc/iscsi/iscsi.initramfs"' \
    --customize-hook='install -m 755 /dev/stdin "$1/etc/initramfs-tools/scripts/local-bottom/seed-network" <"$SEED_NETWORK"' \
    --customize-hook='chroot "$1" update-initramfs -u' \
    bookworm "$root" >&2

# Machine identity and keys are made at the first boot.
rm -f "$root"/etc/ssh/ssh_host_* "$root/etc/machine-id" "$root/var/lib/dbus/machine-id"
: >"$root/etc/machine-id"
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root/etc/resolv.conf"
echo localhost >"$root/etc/hostname"
printf 'LABEL=root / ext4 errors=remount-ro 0 1\n' >"$root/etc/fstab"
printf 'datasource_list: [NoCloud, None]\n' >"$root/etc/cloud/cloud.cfg.d/90-lab.cfg"
printf 'system_info:\n  network:\n    renderers: [networkd]\n' >"$root/etc/cloud/cloud.cfg.d/91-lab.cfg"
# What this system needs of cloud-init, and no more: emulated processors are slow.
cat >"$root/etc/cloud/cloud.cfg.d/92-lab.cfg" <<'C'
ssh_genkeytypes: [ed25519]
manage_etc_hosts: localhost
cloud_init_modules: [bootcmd, write-files, growpart, resizefs, mounts, set_hostname, update_hostname, update_etc_hosts, users-groups, ssh]
cloud_config_modules: [set-passwords, runcmd]
cloud_final_modules: [scripts-user, phone-home, final-message]
C
# Without a word of the seed about networks, the first cable is asked for an address.
mkdir -p "$root/etc/systemd/network"
printf '[Match]\nType=ether\n[Network]\nDHCP=yes\n' >"$root/etc/systemd/network/99-any.network"
# Where the root file system comes over the network: the address must not go while systemd-networkd takes the interface over (the next page
# of systemd-networkd would be behind it), and an interface in use cannot be renamed: what the seed calls it becomes a second name.
cat >"$root/usr/local/sbin/root-network" <<'N'
#!/bin/sh
for f in /etc/systemd/network/10-cloud-init-*.network; do
    [ -e "$f" ] || continue
    mac=$(sed -n 's/^MACAddress=//p' "$f") name=$(sed -n 's/^Name=//p' "$f")
    for net in /sys/class/net/*; do
        if [ "$(cat "$net/address")" = "$mac" ] && [ ! -e "/sys/class/net/$name" ]; then
            ip link property add dev "${net##*/}" altname "$name"
        fi
    done
    mkdir -p "/run/systemd/network/${f##*/}.d"
    printf '[Network]\nKeepConfiguration=yes\n' >"/run/systemd/network/${f##*/}.d/keep.conf"
done
N
chmod 755 "$root/usr/local/sbin/root-network"
cat >"$root/etc/systemd/system/root-network.service" <<'U'
[Unit]
Description=Network of the root file system
ConditionPathExists=/sys/firmware/ibft
DefaultDependencies=no
After=cloud-init-local.service
Before=network-pre.target systemd-networkd.service
Wants=network-pre.target
[Service]
Type=oneshot
ExecStart=/usr/local/sbin/root-network
[Install]
WantedBy=sysinit.target
U
chroot "$root" systemctl enable --quiet systemd-networkd ssh root-network >&2
# Emulated processors take seconds for what real ones do unseen: what this system needs not is not started. cloud-init is always wanted,
# which its generator finds out by a long shell script; its validation of what it is given costs an import at each of its four stages.
chroot "$root" systemctl mask --quiet apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer dpkg-db-backup.timer \
    systemd-networkd-wait-online.service e2scrub_reap.service rpcbind.service rpcbind.socket getty@tty1.service serial-getty@ttyS0.service systemd-pstore.service \
    cloud-init-hotplugd.socket systemd-update-utmp.service systemd-update-utmp-runlevel.service >&2
rm -f "$root"/lib/systemd/system-generators/{cloud-init-generator,systemd-gpt-auto-generator}
ln -s /lib/systemd/system/cloud-init.target "$root/etc/systemd/system/multi-user.target.wants/cloud-init.target"
rm -rf "$root"/usr/lib/python3/dist-packages/jsonschema*

options="root=LABEL=root ro console=ttyS0 net.ifnames=0 quiet mitigations=off audit=0 apparmor=0 selinux=0"
esp=$work/esp
mkdir -p "$esp/EFI/BOOT" "$esp/loader/entries"
cp "$root"/boot/vmlinuz-* "$esp/vmlinuz"
cp "$root"/boot/initrd.img-* "$esp/initrd"
rm -f "$root"/boot/initrd.img-* "$root"/boot/vmlinuz-* "$root"/{vmlinuz,initrd.img}*
cp /usr/lib/systemd/boot/efi/systemd-bootx64.efi "$esp/EFI/BOOT/BOOTX64.EFI"
printf 'timeout 0\ndefault lab\n' >"$esp/loader/loader.conf"
printf 'title Debian\nlinux /vmlinuz\ninitrd /initrd\noptions %s\n' "$options" >"$esp/loader/entries/lab.conf"
printf 'DEFAULT lab\nLABEL lab\n LINUX /vmlinuz\n INITRD /initrd\n APPEND %s\n' "$options" >"$esp/syslinux.cfg"

img=$work/disk.raw
truncate -s $((1 + esp_mib + root_mib + 1))M "$img"
sfdisk -q "$img" >&2 <<S
label: gpt
start=1MiB, size=${esp_mib}MiB, type=U, attrs=LegacyBIOSBootable, name=esp
start=$((1 + esp_mib))MiB, size=${root_mib}MiB, type=L, name=root
S
truncate -s ${esp_mib}M "$work/esp.img"
mkfs.vfat -F 32 -n ESP "$work/esp.img" >/dev/null
mcopy -s -i "$work/esp.img" "$esp"/* ::/
syslinux --install "$work/esp.img"
dd if="$work/esp.img" of="$img" bs=1M seek=1 conv=notrunc status=none
dd if=/usr/lib/syslinux/mbr/gptmbr.bin of="$img" bs=440 count=1 conv=notrunc status=none
truncate -s ${root_mib}M "$work/root.img"
mkfs.ext4 -q -L root -d "$root" "$work/root.img"
dd if="$work/root.img" of="$img" bs=1M seek=$((1 + esp_mib)) conv=notrunc,sparse status=none
du -sm "$root" "$esp" >&2
qemu-img convert -O qcow2 "$img" "$out.new"
mv "$out.new" "$out"
ls -l "$out" >&2
