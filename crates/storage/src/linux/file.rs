//! Shares: a file system of its own each, so that its size is real, exported over NFS by NFS-Ganesha. Ganesha reads the fragments of a
//! directory (`%dir` in its configuration) again when it gets SIGHUP.

use std::{collections::BTreeSet, net::IpAddr};

use async_trait::async_trait;
use model::storage::{Share, ShareState};

use super::{LONG, Linux, SHORT, backing::Piece};
use crate::{
    File, StorageError,
    plan::{growth, round_up},
    ssh::quote,
};

/// Shares are whole multiples of this.
const UNIT: u64 = 4 << 20;
/// XFS does not go smaller.
const SMALLEST: u64 = 300 << 20;

impl Linux {
    pub(super) fn nfs_host(&self) -> String {
        self.access.text("nfsHost").or_else(|| self.access.text("iscsiHost")).unwrap_or(&self.access.address).to_owned()
    }

    fn mount_point(&self, name: &str) -> String {
        let root = self.access.text("sharesDirectory").unwrap_or("/srv/steelyard-shares");
        format!("{}/{name}", root.trim_end_matches('/'))
    }

    fn fragment(&self, name: &str) -> String {
        format!("{}/{name}.conf", self.settings.exports)
    }

    /// Makes Ganesha read its exports again and waits until it has.
    fn reload(&self) -> String {
        format!("kill -HUP \"$(cat {})\"\nsleep 0.5", quote(&self.settings.ganesha_pid))
    }

    fn mount(&self, name: &str) -> String {
        let (path, point) = (quote(&self.backing.path(Piece::Whole(name))), quote(&self.mount_point(name)));
        format!(
            "mkdir -p {point}\nif ! mountpoint -q {point}; then mount -t xfs -o {} {path} {point}; fi",
            self.backing.mount_options()
        )
    }

    fn fstab_line(&self, name: &str) -> String {
        format!(
            "{} {} xfs {} 0 0",
            self.backing.path(Piece::Whole(name)),
            self.mount_point(name),
            self.backing.mount_options()
        )
    }

    /// A script while nothing is written to a share.
    pub(super) fn frozen(&self, name: &str, script: &str) -> String {
        let point = quote(&self.mount_point(name));
        format!("if mountpoint -q {point}; then trap 'fsfreeze -u '{point} EXIT; fsfreeze -f {point}; fi\n{script}")
    }

    /// Takes a share out of service, runs the script and brings it back; the file handles that clients hold stay good.
    pub(super) async fn restore_share(&self, name: &str, restore: &str) -> Result<(), StorageError> {
        let (fragment, point) = (quote(&self.fragment(name)), quote(&self.mount_point(name)));
        // Ganesha reads every file of its directory, whatever its name ends with.
        let aside = quote(&format!("{}.aside/{name}.conf", self.settings.exports));
        let script = format!(
            "mkdir -p {aside_dir}\nif [ -e {fragment} ]; then mv {fragment} {aside}; fi\n{reload}\n{unmount}\n{restore}\n{mount}\nif [ -e {aside} ]; then mv {aside} {fragment}; fi\n{reload}",
            aside_dir = quote(&format!("{}.aside", self.settings.exports)),
            reload = self.reload(),
            unmount = unmount(&point),
            mount = self.mount(name),
        );
        self.script(&format!("restore {name}"), &script, LONG).await.map(drop)
    }

    /// The export that Ganesha shall have.
    fn export(&self, name: &str, id: u32, clients: &BTreeSet<IpAddr>) -> String {
        let mut text = format!(
            "# Written by Steelyard; changes are lost.\nEXPORT {{\n  Export_Id = {id};\n  Path = \"{}\";\n  Pseudo = \"/{name}\";\n  Access_Type = NONE;\n  Squash = No_Root_Squash;\n  Protocols = 4;\n  Transports = TCP;\n  SecType = sys;\n  FSAL {{ Name = VFS; }}\n",
            self.mount_point(name)
        );
        if !clients.is_empty() {
            let list: Vec<String> = clients.iter().map(ToString::to_string).collect();
            text.push_str(&format!("  CLIENT {{ Clients = {}; Access_Type = RW; }}\n", list.join(", ")));
        }
        text.push_str("}\n");
        text
    }

    /// The number of an export: that which it has, or the next free one.
    async fn export_id(&self, name: &str) -> Result<u32, StorageError> {
        let script = format!("grep -H Export_Id {}/*.conf 2>/dev/null || true", quote(&self.settings.exports));
        let out = self.script("list exports", &script, SHORT).await?;
        let mut taken = BTreeSet::new();
        for line in out.lines() {
            let id = line.rsplit('=').next().and_then(|n| n.trim().trim_end_matches(';').trim().parse::<u32>().ok());
            let Some(id) = id else { continue };
            if line.starts_with(&format!("{}:", self.fragment(name))) {
                return Ok(id);
            }
            taken.insert(id);
        }
        // Low numbers are left to exports that people wrote.
        Ok((1000..=65_535).find(|id| !taken.contains(id)).unwrap_or(1000))
    }
}

/// Unmounts once the last file is closed.
fn unmount(point: &str) -> String {
    format!(
        "n=0\nwhile mountpoint -q {point} && ! umount {point} 2>/dev/null; do n=$((n+1)); if [ $n -ge 40 ]; then umount {point}; fi; sleep 0.25; done"
    )
}

#[async_trait]
impl File for Linux {
    async fn share_ensure(&self, share: &Share) -> Result<ShareState, StorageError> {
        let _turn = self.turn.lock().await;
        let name = self.name(&share.key);
        let path = self.backing.path(Piece::Whole(&name));
        let (q, point) = (quote(&path), quote(&self.mount_point(&name)));
        let size = round_up(Ord::max(share.size_bytes, SMALLEST), UNIT);
        let has = self.measured(&format!("measure {name}"), &path).await?;
        let mut script = String::new();
        match has {
            None => {
                script.push_str(&self.backing.create(&name, size));
                script.push_str(&format!("\nmkfs.xfs -q {q}\n"));
            }
            Some((has, _)) => {
                // Cut off between making and formatting, it is formatted now; XFS never formats over anything.
                script.push_str(&format!(
                    "if [ -z \"$(blkid -p -o value -s TYPE {q} || true)\" ]; then mkfs.xfs -q {q}; fi\n"
                ));
                if growth(&share.key, has, Ord::max(share.size_bytes, SMALLEST), UNIT)?.is_some() {
                    script.push_str(&self.backing.grow(&name, size));
                    script.push('\n');
                }
            }
        }
        script.push_str(&self.mount(&name));
        // The loop device and the file system follow the size; doing so twice does nothing.
        script.push_str(&format!(
            "\ndevice=$(findmnt -n -o SOURCE {point})\ncase \"$device\" in /dev/loop*) losetup -c \"$device\";; esac\nxfs_growfs -d {point} >/dev/null\nchmod 0777 {point}\n"
        ));
        let (fstab, line) = (quote(&self.settings.fstab), quote(&self.fstab_line(&name)));
        script.push_str(&format!(
            "if ! grep -qxF {line} {fstab} 2>/dev/null; then printf '%s\\n' {line} >> {fstab}; fi\n"
        ));
        let clients: BTreeSet<IpAddr> = share.clients.iter().copied().collect();
        let export = self.export(&name, self.export_id(&name).await?, &clients);
        let (dir, fragment) = (quote(&self.settings.exports), quote(&self.fragment(&name)));
        script.push_str(&format!(
            "mkdir -p {dir}\nif [ \"$(cat {fragment} 2>/dev/null)\" != \"$(printf %s {e})\" ]; then mkdir -p {dir}.aside; printf %s {e} > {dir}.aside/new; mv {dir}.aside/new {fragment}; fi\n{}\n",
            self.reload(),
            e = quote(&export),
        ));
        script.push_str(&format!("df -B1 --output=used {point} | tail -n 1"));
        let out = self.script(&format!("make the share {name}"), &script, LONG).await?;
        let used = out.lines().last().and_then(|l| l.trim().parse().ok());
        let (size, _) =
            self.measured(&format!("measure {name}"), &path).await?.ok_or_else(|| self.missing(&share.key))?;
        let port = self.settings.nfs_port;
        Ok(ShareState {
            key: share.key.clone(),
            size_bytes: size,
            used_bytes: used,
            server: self.nfs_host(),
            port: if port == 2049 { 0 } else { port },
            path: format!("/{name}"),
            mount_options: if port == 2049 { "vers=4.2".into() } else { format!("vers=4.2,port={port}") },
        })
    }

    async fn share_delete(&self, key: &str) -> Result<(), StorageError> {
        let _turn = self.turn.lock().await;
        let name = self.name(key);
        let (fragment, point) = (quote(&self.fragment(&name)), quote(&self.mount_point(&name)));
        let (fstab, line) = (quote(&self.settings.fstab), quote(&self.fstab_line(&name)));
        let script = format!(
            "if [ -e {fragment} ]; then rm -f {fragment}; {reload}; fi\n{unmount}\nrmdir {point} 2>/dev/null || true\n\
             if grep -qxF {line} {fstab} 2>/dev/null; then {{ grep -vxF {line} {fstab} || true; }} > {fstab}.steelyard; cat {fstab}.steelyard > {fstab}; rm -f {fstab}.steelyard; fi\n{snapshots}\n{remove}",
            reload = self.reload(),
            unmount = unmount(&point),
            snapshots = self.backing.remove_snapshots(&name),
            remove = self.backing.remove(Piece::Whole(&name)),
        );
        self.script(&format!("remove the share {name}"), &script, LONG).await.map(drop)
    }
}
