//! Volumes as iSCSI targets of tgt, one target a volume.

use std::collections::BTreeSet;

use async_trait::async_trait;
use model::{
    secret::Clear,
    storage::{AccessState, HostAccess, Volume, VolumeState},
};

use super::{
    LONG, Linux, SHORT,
    backing::Piece,
    tgt::{self, Target},
};
use crate::{
    Block, Host, StorageError,
    plan::{difference, growth, round_up},
    ssh::quote,
};

/// Volumes are whole multiples of this; it is what LVM gives as well.
const UNIT: u64 = 4 << 20;
/// The logical unit of a volume in its target.
const LUN: u32 = 1;

impl Linux {
    /// All targets.
    async fn targets(&self) -> Result<Vec<Target>, StorageError> {
        let script = format!("{} --op show --mode target", self.settings.tgt);
        Ok(tgt::parse(&self.script("list iSCSI targets", &script, SHORT).await?))
    }

    /// The target of a volume, if there is one.
    pub(super) async fn target(&self, name: &str) -> Result<Option<Target>, StorageError> {
        let iqn = tgt::iqn(name);
        Ok(self.targets().await?.into_iter().find(|t| t.iqn == iqn))
    }

    fn config_file(&self, name: &str) -> String {
        format!("{}/{name}.conf", self.settings.tgt_config)
    }

    /// Writes the file by which the target is there again after a restart.
    fn write_config(&self, name: &str, text: &str) -> String {
        let (dir, file) = (quote(&self.settings.tgt_config), quote(&self.config_file(name)));
        format!("mkdir -p {dir}\nprintf %s {} > {file}.new\nmv {file}.new {file}", quote(text))
    }

    /// Commands that open the backing store of a target.
    pub(super) fn attach(&self, tid: u32, name: &str) -> String {
        let (tgt, path) = (&self.settings.tgt, quote(&self.backing.path(Piece::Whole(name))));
        // The product and serial number are what a host shows; vendor names are at most eight letters.
        let serial: String = name.chars().rev().take(30).collect::<Vec<_>>().into_iter().rev().collect();
        format!(
            "{tgt} --op new --mode logicalunit --tid {tid} --lun {LUN} -b {path}\n{tgt} --op update --mode logicalunit --tid {tid} --lun {LUN} --params vendor_id=STEELYRD,product_id=volume,scsi_sn={serial},thin_provisioning=1"
        )
    }

    /// Makes the target, closed to all, if it is not there.
    pub(super) async fn target_ensure(&self, name: &str) -> Result<Target, StorageError> {
        let targets = self.targets().await?;
        let (iqn, tgt) = (tgt::iqn(name), &self.settings.tgt);
        let what = format!("make the target of {name}");
        let found = targets.iter().find(|t| t.iqn == iqn);
        if let Some(found) = found.filter(|t| t.store.is_some() && t.ready) {
            return Ok(found.clone());
        }
        let mut script = String::new();
        let tid = match found {
            Some(found) => found.tid,
            None => {
                let taken = targets.iter().map(|t| t.tid).collect();
                let node = self.ssh.fingerprint().unwrap_or_default();
                let tid = tgt::number(&node, name, &taken);
                let config = tgt::config(&iqn, tid, &self.backing.path(Piece::Whole(name)), &BTreeSet::new(), &[]);
                script = format!(
                    "{tgt} --op new --mode target --tid {tid} -T {}\n{}\n",
                    quote(&iqn),
                    self.write_config(name, &config)
                );
                tid
            }
        };
        if found.is_none_or(|t| t.store.is_none()) {
            script.push_str(&self.attach(tid, name));
        }
        if found.is_some_and(|t| !t.ready) {
            script.push_str(&format!("\n{tgt} --op update --mode target --tid {tid} --name state --value ready"));
        }
        self.script(&what, &script, SHORT).await?;
        self.target(name).await?.ok_or_else(|| self.failed(&what, "it is not there afterwards"))
    }

    /// Commands that end sessions.
    fn cut<'a>(&self, tid: u32, sessions: impl Iterator<Item = &'a tgt::Session>) -> String {
        let mut script = String::new();
        for session in sessions {
            for cid in &session.connections {
                // It may have gone by itself.
                script.push_str(&format!(
                    "{} --op delete --mode conn --tid {tid} --sid {} --cid {cid} || true\n",
                    self.settings.tgt, session.sid
                ));
            }
        }
        script
    }

    /// Makes a volume larger under its hosts. They are held off for a moment, not refused: an iSCSI initiator keeps its requests while a
    /// target answers "service unavailable", and sees the new size when it is back.
    async fn grow_volume(&self, name: &str, size: u64, target: &Target) -> Result<(), StorageError> {
        let (tid, tgt) = (target.tid, &self.settings.tgt);
        let what = format!("grow {name}");
        let ready = format!("{tgt} --op update --mode target --tid {tid} --name state --value ready");
        let script = format!(
            "{grow}\ntrap '{ready}' EXIT\n{tgt} --op update --mode target --tid {tid} --name state --value offline\n{cut}\
             n=0\nwhile ! {tgt} --op delete --mode logicalunit --tid {tid} --lun {LUN}; do n=$((n+1)); [ $n -lt 40 ]; sleep 0.25; done\n{attach}",
            grow = self.backing.grow(name, size),
            cut = self.cut(tid, target.sessions.iter()),
            attach = self.attach(tid, name),
        );
        self.script(&what, &script, SHORT).await.map(drop)
    }

    pub(super) fn missing(&self, key: &str) -> StorageError {
        StorageError::Missing {
            storage: self.access.name.clone(),
            what: format!("the volume {key}"),
            remedy: "it has to be made first; deploy the drive again".into(),
        }
    }

    /// The accounts that a target shall have. Some hosts with a login and some without cannot be kept apart by tgt.
    fn accounts(&self, key: &str, hosts: &[Host]) -> Result<Vec<(String, Clear)>, StorageError> {
        let with: Vec<(String, Clear)> = hosts.iter().filter_map(|h| h.chap.clone()).collect();
        let named = |h: &&Host| {
            let kinds = ["iqn.", "eui.", "naa."];
            kinds.iter().any(|k| h.iqn.starts_with(k)) && h.iqn.chars().all(|c| c.is_ascii_graphic() && c != '#')
        };
        let reason = if let Some(host) = hosts.iter().find(|h| !named(h)) {
            format!("{:?} is not the name of an iSCSI initiator; it begins with iqn.", host.iqn)
        } else if !with.is_empty() && with.len() != hosts.len() {
            format!("of the hosts of {key}, some have a CHAP login and some do not; give all of them one, or none")
        } else if let Some((user, _)) = with.iter().find(|(user, secret)| {
            let word = |w: &str| !w.is_empty() && w.chars().all(|c| c.is_ascii_graphic() && !"\"#<>\\,".contains(c));
            !word(user) || !word(&secret.0)
        }) {
            format!(
                "the CHAP login {user:?} or its secret has characters that tgt does not take; use letters and digits"
            )
        } else {
            return Ok(with);
        };
        Err(StorageError::Setting { storage: self.access.name.clone(), reason })
    }

    /// Commands that make the accounts of a target what they shall be.
    async fn account_script(
        &self,
        name: &str,
        target: &Target,
        wants: &[(String, Clear)],
    ) -> Result<String, StorageError> {
        let tgt = &self.settings.tgt;
        let old = self
            .script(
                "read the target's file",
                &format!("cat {} 2>/dev/null || true", quote(&self.config_file(name))),
                SHORT,
            )
            .await?;
        let others = self.targets().await?;
        let users =
            |user: &str| others.iter().filter(|t| t.accounts.contains(user)).map(|t| t.tid).collect::<BTreeSet<_>>();
        let listed = self.script("list accounts", &format!("{tgt} --op show --mode account"), SHORT).await?;
        let exists = |user: &str| listed.lines().any(|l| l.trim() == user);
        let mut script = String::new();
        for user in target.accounts.iter().filter(|u| !wants.iter().any(|(w, _)| w == *u)) {
            let q = quote(user);
            script.push_str(&format!("{tgt} --op unbind --mode account --tid {} --user {q}\n", target.tid));
            if users(user).len() <= 1 {
                script.push_str(&format!("{tgt} --op delete --mode account --user {q}\n"));
            }
        }
        for (user, secret) in wants {
            let q = quote(user);
            let same = old.lines().any(|l| l.trim() == format!("incominguser {user} {}", secret.0));
            let bound = target.accounts.contains(user);
            if same && bound {
                continue;
            }
            let mut bind = BTreeSet::from([target.tid]);
            // Secrets cannot be read back: unless we know that it is this one, the account is made anew, for all who have it.
            if exists(user) {
                bind.extend(users(user));
                script.push_str(&format!("{tgt} --op delete --mode account --user {q}\n"));
            }
            script.push_str(&format!("{tgt} --op new --mode account --user {q} --password {}\n", quote(&secret.0)));
            for tid in bind {
                script.push_str(&format!("{tgt} --op bind --mode account --tid {tid} --user {q}\n"));
            }
        }
        Ok(script)
    }
}

#[async_trait]
impl Block for Linux {
    async fn volume_ensure(&self, volume: &Volume) -> Result<VolumeState, StorageError> {
        let _turn = self.turn.lock().await;
        if volume.qos.is_some_and(|q| q.max_iops > 0 || q.max_mbps > 0) {
            return Err(StorageError::Unsupported {
                storage: self.access.name.clone(),
                driver: "linux".into(),
                what: "limits of speed".into(),
            });
        }
        if volume.pool.as_ref().is_some_and(|p| *p != self.backing.pool()) {
            return Err(StorageError::Missing {
                storage: self.access.name.clone(),
                what: format!("the pool {}", volume.pool.as_deref().unwrap_or_default()),
                remedy: format!("its pool is {}", self.backing.pool()),
            });
        }
        let name = self.name(&volume.key);
        let path = self.backing.path(Piece::Whole(&name));
        let size = round_up(Ord::max(volume.size_bytes, 1), UNIT);
        match self.measured(&format!("measure {name}"), &path).await? {
            None => {
                self.script(&format!("make {name}"), &self.backing.create(&name, size), SHORT).await?;
                self.target_ensure(&name).await?;
            }
            Some((has, _)) => {
                let target = self.target_ensure(&name).await?;
                if growth(&volume.key, has, volume.size_bytes, UNIT)?.is_some() {
                    self.grow_volume(&name, size, &target).await?;
                }
            }
        }
        let target = self.target(&name).await?;
        let (size, used) =
            self.measured(&format!("measure {name}"), &path).await?.ok_or_else(|| self.missing(&volume.key))?;
        Ok(self.state(&volume.key, size, used, target.map(|t| t.tid)))
    }

    async fn volume_delete(&self, key: &str) -> Result<(), StorageError> {
        let _turn = self.turn.lock().await;
        let name = self.name(key);
        let what = format!("remove {name}");
        let mut script = format!("rm -f {}\n", quote(&self.config_file(&name)));
        if let Some(target) = self.target(&name).await? {
            let hosts: Vec<&str> = target.allowed.iter().map(String::as_str).collect();
            if !hosts.is_empty() {
                return Err(StorageError::InUse { what: format!("the volume {key}"), by: hosts.join(", ") });
            }
            script.push_str(&self.cut(target.tid, target.sessions.iter()));
            script.push_str(&format!("{} --op delete --mode target --tid {} --force\n", self.settings.tgt, target.tid));
        }
        script.push_str(&format!(
            "{}\n{}",
            self.backing.remove_snapshots(&name),
            self.backing.remove(Piece::Whole(&name))
        ));
        self.script(&what, &script, LONG).await.map(drop)
    }

    async fn access_ensure(&self, key: &str, hosts: &[Host]) -> Result<AccessState, StorageError> {
        let _turn = self.turn.lock().await;
        let name = self.name(key);
        let path = self.backing.path(Piece::Whole(&name));
        if self.measured(&format!("look for {name}"), &path).await?.is_none() {
            if hosts.is_empty() {
                return Ok(AccessState { key: key.to_owned(), protocol: "iscsi".into(), ..AccessState::default() });
            }
            return Err(self.missing(key));
        }
        let accounts = self.accounts(key, hosts)?;
        let target = self.target_ensure(&name).await?;
        let (tid, tgt) = (target.tid, &self.settings.tgt);
        let wants: BTreeSet<String> = hosts.iter().map(|h| h.iqn.clone()).collect();
        let change = difference(&target.allowed, &wants);
        let mut script = String::new();
        for gone in &change.remove {
            let kind = if gone.starts_with("iqn.") || gone.starts_with("eui.") || gone.starts_with("naa.") {
                "-Q"
            } else {
                "-I"
            };
            script.push_str(&format!("{tgt} --op unbind --mode target --tid {tid} {kind} {}\n", quote(gone)));
        }
        script.push_str(&self.cut(tid, target.sessions.iter().filter(|s| !wants.contains(&s.initiator))));
        script.push_str(&self.account_script(&name, &target, &accounts).await?);
        for new in &change.add {
            script.push_str(&format!("{tgt} --op bind --mode target --tid {tid} -Q {}\n", quote(new)));
        }
        script.push_str(&self.write_config(&name, &tgt::config(&target.iqn, tid, &path, &wants, &accounts)));
        let what = format!("let {} hosts use {name}", wants.len());
        self.script(&what, &script, SHORT).await?;
        let after = self.target(&name).await?.ok_or_else(|| self.failed(&what, "the target has gone"))?;
        if after.allowed != wants {
            return Err(self.failed(&what, &format!("it lets in {:?}", after.allowed)));
        }
        // Whoever was cut off could have come back before the list was closed; the list is closed now.
        let late = self.cut(tid, after.sessions.iter().filter(|s| !wants.contains(&s.initiator)));
        if !late.is_empty() {
            self.script(&what, &late, SHORT).await?;
        }
        Ok(AccessState {
            key: key.to_owned(),
            protocol: "iscsi".into(),
            target: Some(after.iqn),
            portals: self.portals(),
            hosts: wants.into_iter().map(|iqn| HostAccess { iqn, lun: Some(LUN), target: None }).collect(),
        })
    }
}
