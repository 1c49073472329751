//! A Linux storage node over SSH: iSCSI targets by tgt, NFS exports by NFS-Ganesha, buckets by SeaweedFS; data in sparse files or in thin
//! logical volumes.
//!
//! The programs' own state is the truth and is read before each change; configuration files are written beside it so that a restart of the
//! node brings everything back. Sources: tgtadm(8), tgt-admin(8), targets.conf(5), ganesha-config(8), ganesha-export-config(8), the help of
//! `weed shell`.

mod backing;
mod block;
mod file;
mod object;
mod snapshots;
mod tgt;

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use model::storage::{
    BlockProtocol, Capacity, PoolFacts, Portal, StorageFacts, StorageFeatures, Technology, VolumeState,
};

use self::backing::Backing;
use crate::{
    Access, Array, Block, File, Object, Probe, Snapshots, StorageError,
    plan::{NameRule, object_name},
    ssh::{Ssh, quote},
};

/// Names of files, targets and exports.
const NAMES: NameRule = NameRule { longest: 60, others: "-", lower: true };
/// Before each script.
const PRELUDE: &str =
    "export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nset -eu\numask 077\n";
/// Exit status by which our scripts say that something is in use.
const IN_USE: u32 = 75;
/// A script that copies no data.
const SHORT: Duration = Duration::from_mins(1);
/// A script that may copy a volume.
const LONG: Duration = Duration::from_hours(2);

/// What the storage's options set, with their defaults.
struct Settings {
    tgt: String,
    tgt_config: String,
    exports: String,
    ganesha_pid: String,
    fstab: String,
    weed: String,
    iscsi_port: u16,
    nfs_port: u16,
    s3_port: u16,
    hosts: Vec<String>,
    s3_host: String,
}

impl Settings {
    fn of(access: &Access) -> Result<Self, StorageError> {
        let text = |name: &str, default: &str| access.text(name).unwrap_or(default).to_owned();
        let port = |name: &str, default: u16| match access.options.get(name) {
            None => Ok(default),
            Some(_) => access.number(name).and_then(|n| u16::try_from(n).ok()).filter(|p| *p > 0).ok_or_else(|| {
                StorageError::Setting {
                    storage: access.name.clone(),
                    reason: format!("option {name} is no port; enter a number between 1 and 65535"),
                }
            }),
        };
        let mut hosts = vec![text("iscsiHost", &access.address)];
        if let Some(more) = access.options.get("alternateSanIPs").and_then(|v| v.as_array()) {
            hosts.extend(more.iter().filter_map(|v| v.as_str()).map(str::to_owned));
        }
        hosts.dedup();
        let weed = format!(
            "{} shell -master={} -filer={}",
            quote(&text("weedProgram", "weed")),
            quote(&text("weedMaster", "localhost:9333")),
            quote(&text("weedFiler", "localhost:8888"))
        );
        Ok(Self {
            tgt: format!("tgtadm -C {} --lld iscsi", access.number("tgtControlPort").unwrap_or(0)),
            tgt_config: text("tgtConfig", "/etc/tgt/conf.d"),
            exports: text("ganeshaExports", "/etc/ganesha/steelyard.d"),
            ganesha_pid: text("ganeshaPidFile", "/var/run/ganesha/ganesha.pid"),
            fstab: text("fstab", "/etc/fstab"),
            weed,
            iscsi_port: port("iscsiPort", 3260)?,
            nfs_port: port("nfsPort", 2049)?,
            s3_port: port("s3Port", 8333)?,
            hosts,
            s3_host: text("s3Hostname", &access.address),
        })
    }
}

/// A node.
pub struct Linux {
    access: Access,
    ssh: Ssh,
    settings: Settings,
    backing: Backing,
    /// One change at a time: target numbers are chosen from what is there.
    turn: tokio::sync::Mutex<()>,
}

impl Linux {
    /// A driver for that node.
    pub fn new(access: Access) -> Result<Self, StorageError> {
        let backing = Backing::of(&access)?;
        let settings = Settings::of(&access)?;
        if access.protocol.is_some_and(|p| p != BlockProtocol::Iscsi) {
            return Err(StorageError::Unsupported {
                storage: access.name.clone(),
                driver: "linux".into(),
                what: "volumes over another protocol than iSCSI".into(),
            });
        }
        Ok(Self { ssh: Ssh::new(access.clone()), access, settings, backing, turn: tokio::sync::Mutex::default() })
    }

    /// Ends the connection.
    pub async fn close(&self) {
        self.ssh.close().await;
    }

    fn name(&self, key: &str) -> String {
        object_name(self.access.prefix(), key, NAMES)
    }

    /// Runs a script that must succeed; `what` says what it is for.
    async fn script(&self, what: &str, script: &str, deadline: Duration) -> Result<String, StorageError> {
        let done = self.ssh.run(&format!("{PRELUDE}{script}\n"), deadline).await?;
        match done.code {
            0 => Ok(done.out),
            IN_USE => Err(self.failed(what, &format!("it is in use by {}", done.err.trim()))),
            _ => Err(self.failed(what, &done.err)),
        }
    }

    fn failed(&self, what: &str, said: &str) -> StorageError {
        let lines: Vec<&str> = said.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
        let reason = lines[lines.len().saturating_sub(3)..].join("; ");
        let (storage, what) = (self.access.name.clone(), what.to_owned());
        if reason.contains("not found")
            && (reason.contains("tgtadm") || reason.contains("weed") || reason.contains("mkfs"))
        {
            return StorageError::Setting {
                storage,
                reason: format!("to {what} a program is missing: {reason}; install it"),
            };
        }
        if reason.contains("a password is required") || reason.contains("a terminal is required") {
            return StorageError::Setting {
                storage,
                reason: format!("the login may not act as root ({reason}); let it use sudo without a password"),
            };
        }
        StorageError::Failed {
            storage,
            what,
            reason: if reason.is_empty() { "it did not say why".into() } else { reason },
        }
    }

    fn portals(&self) -> Vec<Portal> {
        let portal = |host: &String| Portal {
            name: String::new(),
            node: self.access.name.clone(),
            protocol: "iscsi".into(),
            address: host.clone(),
            port: self.settings.iscsi_port,
        };
        self.settings.hosts.iter().map(portal).collect()
    }

    /// Size and use of what lies at `path`; `None`: nothing there.
    async fn measured(&self, what: &str, path: &str) -> Result<Option<(u64, u64)>, StorageError> {
        let out = self.script(what, &self.backing.measure(path), SHORT).await?;
        let mut numbers = out.split_whitespace().filter_map(|n| n.parse().ok());
        Ok(numbers.next().map(|size| (size, numbers.next().unwrap_or(size))))
    }

    fn state(&self, key: &str, size: u64, used: u64, tid: Option<u32>) -> VolumeState {
        VolumeState {
            key: key.to_owned(),
            array_name: tgt::iqn(&self.name(key)),
            size_bytes: size,
            used_bytes: Some(used),
            wwn: tid.map(tgt::naa),
            pool: Some(self.backing.pool()),
        }
    }
}

#[async_trait]
impl Probe for Linux {
    async fn facts(&self) -> Result<StorageFacts, StorageError> {
        let s = &self.settings;
        let script = format!(
            r#"
say() {{ printf '%s=%s\n' "$1" "$2"; }}
say serial "$(cat /sys/class/dmi/id/product_serial 2>/dev/null | grep -v '^ *$' || cat /etc/machine-id 2>/dev/null || hostname)"
say model "$(cat /sys/class/dmi/id/product_name 2>/dev/null || true)"
say vendor "$(cat /sys/class/dmi/id/sys_vendor 2>/dev/null || true)"
say version "$(. /etc/os-release 2>/dev/null && printf %s "${{PRETTY_NAME:-Linux}}") $(uname -r)"
{capacity}
if {tgt} --op show --mode target >/dev/null 2>&1; then say block 1; fi
if [ -e {pid} ] && kill -0 "$(cat {pid})" 2>/dev/null; then say file 1; fi
if printf 's3.bucket.list\n' | timeout 20 {weed} >/dev/null 2>&1; then say object 1; fi
"#,
            capacity = self.backing.capacity(),
            tgt = s.tgt,
            pid = quote(&s.ganesha_pid),
            weed = s.weed,
        );
        let out = self.script("tell what it is", &script, SHORT).await?;
        let said: BTreeMap<&str, &str> = out.lines().filter_map(|l| l.split_once('=')).collect();
        let text = |k: &str| said.get(k).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
        let number = |k: &str| said.get(k).and_then(|v| v.trim().parse().ok()).unwrap_or(0);
        let capacity = Capacity { total_bytes: number("total"), used_bytes: number("used") };
        if capacity.total_bytes == 0 {
            return Err(StorageError::Missing {
                storage: self.access.name.clone(),
                what: format!("the pool {}", self.backing.pool()),
                remedy: "create it, or correct the option volumeName".into(),
            });
        }
        let mut facts = StorageFacts {
            serial: text("serial"),
            vendor: text("vendor"),
            model: text("model"),
            version: text("version"),
            capacity,
            pools: vec![PoolFacts { name: self.backing.pool(), capacity, media: String::new() }],
            features: StorageFeatures { snapshots: true, share_snapshots: true, clones: true, qos: false },
            tls_fingerprint: self.ssh.fingerprint(),
            ..StorageFacts::default()
        };
        if said.contains_key("block") {
            facts.technologies.push(Technology::Block);
            facts.portals.extend(self.portals());
        }
        let place = |protocol: &str, address: &str, port: u16| Portal {
            name: String::new(),
            node: self.access.name.clone(),
            protocol: protocol.into(),
            address: address.to_owned(),
            port,
        };
        if said.contains_key("file") {
            facts.technologies.push(Technology::File);
            facts.portals.push(place("nfs", &self.nfs_host(), s.nfs_port));
        }
        if said.contains_key("object") {
            facts.technologies.push(Technology::Object);
            facts.portals.push(place("s3", &s.s3_host, s.s3_port));
        }
        Ok(facts)
    }

    fn fingerprint(&self) -> Option<String> {
        self.ssh.fingerprint()
    }

    fn refused_fingerprint(&self) -> Option<String> {
        self.ssh.refused_fingerprint()
    }
}

impl Array for Linux {
    fn block(&self) -> Option<&dyn Block> {
        Some(self)
    }
    fn snapshots(&self) -> Option<&dyn Snapshots> {
        Some(self)
    }
    fn file(&self) -> Option<&dyn File> {
        Some(self)
    }
    fn object(&self) -> Option<&dyn Object> {
        Some(self)
    }
}
