#!/usr/bin/env bash
# Makes the boot files of a site: OUT/agent/{vmlinuz,initrd} (Debian's kernel, busybox and our agent), OUT/agent/iscsi (a second RAM disk
# with an iSCSI initiator, loaded only by machines that are installed on a volume) and OUT/{undionly.kpxe,ipxe.efi}.
# The same inputs give the same bytes: the packages, the Rust toolchain and the sources. Nothing is installed, no root is needed.
#
#   scripts/agent-image.sh [OUT]          default: target/boot
#
# AGENT_KERNEL   Debian's kernel package: linux-image-cloud-amd64 (default; virtual machines, NVMe, mlx4/5, ena) or linux-image-amd64
#                (all drivers, for most real servers; a much larger initrd).
# AGENT_PROFILE  cargo profile of the agent: agent (default: optimised for size, stripped) or any other that the workspace has.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
out=$(realpath -m "${1:-target/boot}")
kernel=${AGENT_KERNEL:-linux-image-cloud-amd64}
profile=${AGENT_PROFILE:-agent}
cache=$root/target/agent-image
target=x86_64-unknown-linux-gnu
# Every file in the initrd has this time.
epoch=1700000000

missing=()
need() { command -v "$1" >/dev/null || missing+=("$1 (package $2)"); }
need apt-get apt
need dpkg-deb dpkg
need depmod kmod
need modprobe kmod
need cpio cpio
need readelf binutils
need gzip gzip
need cargo "cargo, or rustup"
if ((${#missing[@]})); then
    printf 'agent-image: missing: %s\n' "${missing[@]}" >&2
    echo "agent-image: install them, for example: apt-get install kmod cpio" >&2
    exit 1
fi

mkdir -p "$cache/debs" "$out/agent"
work=$(mktemp -d "$cache/work.XXXXXX")
trap 'rm -rf "$work"' EXIT

# The newest version that apt knows, downloaded once.
fetch() { # PACKAGE -> path of its deb
    local version file
    version=$(apt-cache show --no-all-versions "$1" 2>/dev/null | awk '/^Version:/{print $2; exit}')
    [ -n "$version" ] || { echo "agent-image: apt knows no package $1; is this Debian, and was apt-get update run?" >&2; exit 1; }
    file=$cache/debs/${1}_${version//:/%3a}_amd64.deb
    if [ ! -s "$file" ]; then
        (cd "$work" && apt-get download -qq "$1" 2>"$work/apt.log") || { cat "$work/apt.log" >&2; echo "agent-image: cannot download $1" >&2; exit 1; }
        mv "$work/$1"_*.deb "$file"
    fi
    echo "$file"
}

# linux-image-cloud-amd64 names the package that holds the kernel.
real=$(apt-cache depends "$kernel" 2>/dev/null | awk '$1=="Depends:" && $2 ~ /^linux-image-/{print $2; exit}')
kernel_deb=$(fetch "${real:-$kernel}")
busybox_deb=$(fetch busybox-static)
ipxe_deb=$(fetch ipxe)
# The initiator, and the packages in which its libraries may be.
iscsi_debs=()
for name in open-iscsi libopeniscsiusr libkmod2 libssl3 libssl3t64 liblzma5 libzstd1 zlib1g libc6; do
    apt-cache show --no-all-versions "$name" >/dev/null 2>&1 || continue
    iscsi_debs+=("$(fetch "$name")")
done
for deb in "$kernel_deb" "$busybox_deb" "$ipxe_deb"; do
    name=$(basename "$deb" .deb)
    mkdir -p "$work/$name"
    dpkg-deb -x "$deb" "$work/$name"
done
kroot=$work/$(basename "$kernel_deb" .deb)
version=$(basename "$kroot"/lib/modules/*)
depmod -b "$kroot" "$version"

echo "agent-image: building the agent"
host=$(rustc -vV | awk '/^host:/{print $2}')
[ "$host" = "$target" ] || echo "agent-image: building for $target on $host; its target must be installed in the toolchain" >&2
# Static, and without the paths of this machine in it.
env -u CARGO_UNSTABLE_FEATURE_UNIFICATION -u CARGO_RESOLVER_FEATURE_UNIFICATION \
    RUSTFLAGS="-C target-feature=+crt-static -C relocation-model=static --remap-path-prefix=$root=/src --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo" \
    cargo build --quiet --locked -p agent --target "$target" --profile "$profile" \
    --config 'profile.agent.inherits="release"' --config 'profile.agent.opt-level=3' --config 'profile.agent.lto="fat"' \
    --config 'profile.agent.codegen-units=1' --config 'profile.agent.panic="abort"' --config 'profile.agent.strip=true'
folder=$profile
[ "$profile" = dev ] && folder=debug
agent=$root/target/$target/$folder/steelyard-agent

tree=$work/tree
mkdir -p "$tree"/{bin,sbin,proc,sys,dev,run,tmp,mnt,etc}
install -m 755 "$agent" "$tree/init"
install -m 755 "$(find "$work"/busybox-static_* -path '*bin/busybox' -type f)" "$tree/bin/busybox"
# The kernel starts this one by itself for file systems and protocols.
for name in sh modprobe ip ifconfig udhcpc; do ln -s busybox "$tree/bin/$name"; done
ln -s ../bin/busybox "$tree/sbin/modprobe"
cat >"$tree/etc/udhcpc.sh" <<'S'
#!/bin/sh
# The DHCP client tells here what it was given.
PATH=/bin:/sbin
case "$1" in
bound | renew)
    ip addr replace "$ip/${mask:-24}" dev "$interface"
    for r in $router; do
        ip route replace default via "$r" dev "$interface"
        break
    done
    : >/etc/resolv.conf
    for d in $dns; do echo "nameserver $d" >>/etc/resolv.conf; done
    echo "$ip/${mask:-24}" >/run/lease.new && mv /run/lease.new /run/lease
    ;;
esac
S
chmod 755 "$tree/etc/udhcpc.sh"

# Drivers that an installation may need, with all that they need themselves.
# Folders that this kernel does not have are left out.
wanted=$( (cd "$kroot/lib/modules/$version/kernel" && find \
    drivers/ata drivers/block/virtio_blk.ko drivers/block/xen-blkfront.ko drivers/char/tpm drivers/char/hw_random \
    drivers/message/fusion drivers/net/ethernet drivers/net/virtio_net.ko drivers/net/vmxnet3 drivers/net/hyperv \
    drivers/net/xen-netfront.ko drivers/net/mdio drivers/net/phy drivers/nvme/host drivers/scsi drivers/virtio drivers/hv \
    drivers/infiniband/hw/mlx5 drivers/usb/host drivers/usb/storage drivers/hid/hid.ko drivers/hid/hid-generic.ko \
    drivers/hid/usbhid drivers/firmware drivers/vmd drivers/pci/controller net/packet fs/ext4 fs/xfs fs/btrfs fs/fat fs/nls fs/efivarfs \
    -name '*.ko*' 2>/dev/null || true) | grep -vE '/(scsi_debug|iscsi|qla4|bnx2i|cxgbi|mana_ib)' | sed 's|.*/||; s|\.ko.*||' | sort -u)
# shellcheck disable=SC2086
modprobe -d "$kroot" -S "$version" --show-depends -a $wanted 2>/dev/null | awk '$1=="insmod"{print $2}' | sort -u >"$work/modules"
while read -r file; do
    file=${file#"$kroot"/}
    file=${file#/}
    install -D -m 644 "$kroot/$file" "$tree/$file"
done <"$work/modules"
cp "$kroot/lib/modules/$version"/modules.{builtin,builtin.modinfo,order} "$tree/lib/modules/$version/" 2>/dev/null || true
depmod -b "$tree" "$version"
rm -f "$tree/lib/modules/$version"/modules.{symbols,symbols.bin,devname,softdep,weakdep,builtin.modinfo,builtin.bin,builtin.alias.bin,alias.bin,dep.bin,order}

pack() { # TREE NAME: the file OUT/agent/NAME
    find "$1" -exec touch -h -d "@$epoch" {} +
    (cd "$1" && find . -print0 | LC_ALL=C sort -z | cpio --null --create --format=newc --owner=0:0 --reproducible --quiet) >"$work/cpio"
    gzip -n -9 <"$work/cpio" >"$out/agent/$2.new"
    mv "$out/agent/$2.new" "$out/agent/$2"
}
pack "$tree" initrd

# The second RAM disk is laid over the first: Debian's iscsistart with the libraries that it names, the kernel's initiator, and an index of
# modules that knows both.
all=$work/all
san=$work/san
mkdir -p "$all" "$san"/{sbin,lib64,etc/iscsi}
for deb in "${iscsi_debs[@]}"; do dpkg-deb -x "$deb" "$all"; done
install -m 755 "$(find "$all" -path '*sbin/iscsistart' -type f)" "$san/sbin/iscsistart"
library() { # NAME -> path of its file; where there are several the plain one, not one for other processors
    find "$all" -name "$1" -path '*/x86_64-linux-gnu/*' -not -path '*/glibc-hwcaps/*' | LC_ALL=C sort | head -n 1
}
queue=(libc.so.6)
mapfile -t -O 1 queue < <(readelf -d "$san/sbin/iscsistart" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
while ((${#queue[@]})); do
    name=${queue[0]}
    queue=("${queue[@]:1}")
    [ "$name" != ld-linux-x86-64.so.2 ] && [ ! -e "$san/lib/x86_64-linux-gnu/$name" ] || continue
    file=$(library "$name")
    [ -n "$file" ] || { echo "agent-image: iscsistart needs $name, which none of ${iscsi_debs[*]##*/} has" >&2; exit 1; }
    install -D -m 755 "$(realpath "$file")" "$san/lib/x86_64-linux-gnu/$name"
    mapfile -t more < <(readelf -d "$file" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
    queue+=("${more[@]}")
done
install -m 755 "$(realpath "$(library ld-linux-x86-64.so.2)")" "$san/lib64/ld-linux-x86-64.so.2"
echo "GenerateName=yes" >"$san/etc/iscsi/initiatorname.iscsi"
modprobe -d "$kroot" -S "$version" --show-depends -a iscsi_tcp crc32c sd_mod 2>/dev/null | awk '$1=="insmod"{print $2}' | sort -u >"$work/modules.iscsi"
grep -q iscsi_tcp "$work/modules.iscsi" || { echo "agent-image: the kernel $version has no iscsi_tcp" >&2; exit 1; }
both=$work/both
cp -a "$tree" "$both"
while read -r file; do
    file=${file#"$kroot"/}
    file=${file#/}
    install -D -m 644 "$kroot/$file" "$both/$file"
    [ -e "$tree/$file" ] || install -D -m 644 "$kroot/$file" "$san/$file"
done <"$work/modules.iscsi"
cp "$kroot/lib/modules/$version"/modules.{builtin,builtin.modinfo,order} "$both/lib/modules/$version/" 2>/dev/null || true
depmod -b "$both" "$version"
for index in dep alias; do
    install -D -m 644 "$both/lib/modules/$version/modules.$index" "$san/lib/modules/$version/modules.$index"
done
pack "$san" iscsi
install -m 644 "$kroot/boot/vmlinuz-$version" "$out/agent/vmlinuz"
for file in undionly.kpxe ipxe.efi; do
    install -m 644 "$work/$(basename "$ipxe_deb" .deb)/usr/lib/ipxe/$file" "$out/$file"
done

echo "agent-image: kernel $version, $(wc -l <"$work/modules") modules"
cd "$out" && sha256sum agent/vmlinuz agent/initrd agent/iscsi undionly.kpxe ipxe.efi && du -k agent/vmlinuz agent/initrd agent/iscsi | sed 's/\t/ KiB /'
