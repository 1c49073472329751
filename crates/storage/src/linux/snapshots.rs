//! Snapshots and clones: reference copies of files, or thin snapshots.

use std::fmt::Write as _;

use async_trait::async_trait;
use model::storage::{SnapshotOf, SnapshotState, Volume, VolumeState};

use super::{LONG, Linux, NAMES, SHORT, backing::Piece};
use crate::{
    Block, Snapshots, StorageError,
    plan::{growth, object_name},
    ssh::quote,
};

fn snapshot_name(snapshot: &str) -> String {
    object_name("s", snapshot, NAMES)
}

impl Linux {
    /// Time of last change of a snapshot, which is when it was taken; `None`: it is not there.
    async fn taken(&self, name: &str, snap: &str) -> Result<Option<String>, StorageError> {
        let path = quote(&self.backing.path(Piece::Snapshot(name, snap)));
        let script = format!("if [ -e {path} ]; then date -u -d @\"$(stat -L -c %Z {path})\" +%Y-%m-%dT%H:%M:%SZ; fi");
        let out = self.script(&format!("look for a snapshot of {name}"), &script, SHORT).await?;
        Ok(Some(out.trim().to_owned()).filter(|t| !t.is_empty()))
    }

    fn no_snapshot(&self, key: &str, snapshot: &str) -> StorageError {
        StorageError::Missing {
            storage: self.access.name.clone(),
            what: format!("the snapshot {snapshot} of {key}"),
            remedy: "choose one that is there".into(),
        }
    }
}

#[async_trait]
impl Snapshots for Linux {
    async fn snapshot_create(&self, of: SnapshotOf, key: &str, snapshot: &str) -> Result<SnapshotState, StorageError> {
        let _turn = self.turn.lock().await;
        let (name, snap) = (self.name(key), snapshot_name(snapshot));
        if self.taken(&name, &snap).await?.is_none() {
            if self.measured(&format!("look for {name}"), &self.backing.path(Piece::Whole(&name))).await?.is_none() {
                return Err(self.missing(key));
            }
            let users = match of {
                SnapshotOf::Volume => self.target(&name).await?.and_then(|t| t.users()),
                SnapshotOf::Share => None,
            };
            let copy = self.backing.copy(Piece::Whole(&name), Piece::Snapshot(&name, &snap), users.as_deref());
            let script = match of {
                SnapshotOf::Volume => copy,
                SnapshotOf::Share => self.frozen(&name, &copy),
            };
            self.script(&format!("take a snapshot of {name}"), &script, LONG).await?;
        }
        let created_at = self.taken(&name, &snap).await?;
        Ok(SnapshotState { key: key.to_owned(), snapshot: snapshot.to_owned(), created_at })
    }

    async fn snapshot_delete(&self, _: SnapshotOf, key: &str, snapshot: &str) -> Result<(), StorageError> {
        let _turn = self.turn.lock().await;
        let (name, snap) = (self.name(key), snapshot_name(snapshot));
        let script = self.backing.remove(Piece::Snapshot(&name, &snap));
        self.script(&format!("remove a snapshot of {name}"), &script, SHORT).await.map(drop)
    }

    async fn snapshot_restore(&self, of: SnapshotOf, key: &str, snapshot: &str) -> Result<(), StorageError> {
        let _turn = self.turn.lock().await;
        let (name, snap) = (self.name(key), snapshot_name(snapshot));
        if self.taken(&name, &snap).await?.is_none() {
            return Err(self.no_snapshot(key, snapshot));
        }
        let path = self.backing.path(Piece::Whole(&name));
        let (size, _) = self.measured(&format!("measure {name}"), &path).await?.ok_or_else(|| self.missing(key))?;
        let restore = self.backing.restore(&name, &snap, size);
        if of == SnapshotOf::Share {
            return self.restore_share(&name, &restore).await;
        }
        let target = self.target_ensure(&name).await?;
        if let Some(by) = target.users() {
            return Err(StorageError::InUse { what: format!("the volume {key}"), by });
        }
        let (tid, tgt) = (target.tid, &self.settings.tgt);
        let mut script = String::new();
        let ready = format!("{tgt} --op update --mode target --tid {tid} --name state --value ready");
        let _ = write!(
            script,
            "trap '{ready}' EXIT\n{tgt} --op update --mode target --tid {tid} --name state --value offline\n\
             {tgt} --op delete --mode logicalunit --tid {tid} --lun 1\n{restore}\n{}",
            self.attach(tid, &name)
        );
        self.script(&format!("restore {name}"), &script, LONG).await.map(drop)
    }

    async fn clone_volume(
        &self,
        key: &str,
        snapshot: Option<&str>,
        volume: &Volume,
    ) -> Result<VolumeState, StorageError> {
        {
            let _turn = self.turn.lock().await;
            let (name, new) = (self.name(key), self.name(&volume.key));
            let snap = snapshot.map(snapshot_name);
            let from = match &snap {
                Some(snap) => Piece::Snapshot(&name, snap),
                None => Piece::Whole(&name),
            };
            let source = self.measured(&format!("measure {name}"), &self.backing.path(from)).await?;
            let (size, _) = source.ok_or_else(|| match snapshot {
                Some(snapshot) => self.no_snapshot(key, snapshot),
                None => self.missing(key),
            })?;
            let there = self.measured(&format!("look for {new}"), &self.backing.path(Piece::Whole(&new))).await?;
            if there.is_none() {
                growth(&volume.key, size, volume.size_bytes, 4 << 20)?;
                let users = match snap {
                    Some(_) => None,
                    None => self.target(&name).await?.and_then(|t| t.users()),
                };
                let script = self.backing.copy(from, Piece::Whole(&new), users.as_deref());
                self.script(&format!("copy {name} to {new}"), &script, LONG).await?;
            }
        }
        self.volume_ensure(volume).await
    }
}
