//! Snapshots of FlexVols, and FlexClones.

use async_trait::async_trait;
use model::storage::{SnapshotOf, SnapshotState, Volume, VolumeState};
use reqwest::Method;
use serde_json::{Value, json};

use super::{NAMES, Ontap, Svm, block::around};
use crate::{
    Block, Snapshots, StorageError,
    http::{number, text},
    plan::{growth, object_name},
};

impl Ontap {
    fn snapshot_name(&self, snapshot: &str) -> String {
        object_name(self.rest.access.prefix(), snapshot, NAMES)
    }

    async fn snapshot(&self, flexvol: &Value, snapshot: &str) -> Result<Option<Value>, StorageError> {
        let path = format!("/api/storage/volumes/{}/snapshots", text(flexvol, "/uuid").unwrap_or_default());
        let name = self.snapshot_name(snapshot);
        self.one("look for a snapshot", &path, &[("name", &name), ("fields", "uuid,create_time")]).await
    }

    async fn volume_of(&self, svm: &Svm, key: &str) -> Result<Value, StorageError> {
        self.flexvol(svm, &self.name(key)).await?.ok_or_else(|| self.no_volume(key))
    }
}

#[async_trait]
impl Snapshots for Ontap {
    async fn snapshot_create(&self, _: SnapshotOf, key: &str, snapshot: &str) -> Result<SnapshotState, StorageError> {
        let svm = self.svm().await?;
        let flexvol = self.volume_of(&svm, key).await?;
        if self.snapshot(&flexvol, snapshot).await?.is_none() {
            let path = format!("/api/storage/volumes/{}/snapshots", text(&flexvol, "/uuid").unwrap_or_default());
            let body = json!({"name": self.snapshot_name(snapshot), "comment": snapshot});
            self.call(&format!("take a snapshot of {key}"), Method::POST, &path, &[], Some(body)).await?;
        }
        let made = self.snapshot(&flexvol, snapshot).await?;
        let created_at = made.and_then(|s| text(&s, "/create_time"));
        Ok(SnapshotState { key: key.to_owned(), snapshot: snapshot.to_owned(), created_at })
    }

    async fn snapshot_delete(&self, _: SnapshotOf, key: &str, snapshot: &str) -> Result<(), StorageError> {
        let svm = self.svm().await?;
        let Some(flexvol) = self.flexvol(&svm, &self.name(key)).await? else { return Ok(()) };
        let Some(found) = self.snapshot(&flexvol, snapshot).await? else { return Ok(()) };
        let id = |v: &Value| text(v, "/uuid").unwrap_or_default();
        let path = format!("/api/storage/volumes/{}/snapshots/{}", id(&flexvol), id(&found));
        self.call(&format!("remove a snapshot of {key}"), Method::DELETE, &path, &[], None).await.map(drop)
    }

    async fn snapshot_restore(&self, of: SnapshotOf, key: &str, snapshot: &str) -> Result<(), StorageError> {
        let svm = self.svm().await?;
        let name = self.name(key);
        let flexvol = self.volume_of(&svm, key).await?;
        if self.snapshot(&flexvol, snapshot).await?.is_none() {
            return Err(self.rest.missing(format!("the snapshot {snapshot} of {key}"), "choose one that is there"));
        }
        let before = match of {
            SnapshotOf::Volume => self.lun(&svm, &name).await?.and_then(|l| number(&l, "/space/size")),
            SnapshotOf::Share => None,
        };
        let path = format!("/api/storage/volumes/{}", text(&flexvol, "/uuid").unwrap_or_default());
        let body = json!({"restore_to": {"snapshot": {"name": self.snapshot_name(snapshot)}}});
        self.call(&format!("restore {key}"), Method::PATCH, &path, &[], Some(body)).await?;
        // The LUN comes back with the size that it had; it keeps the size that it has now.
        if let Some(size) = before
            && self.lun(&svm, &name).await?.and_then(|l| number(&l, "/space/size")).is_some_and(|now| now < size)
        {
            self.grow_lun(&svm, &name, size).await?;
        }
        Ok(())
    }

    async fn clone_volume(
        &self,
        key: &str,
        snapshot: Option<&str>,
        volume: &Volume,
    ) -> Result<VolumeState, StorageError> {
        let svm = self.svm().await?;
        let new = self.name(&volume.key);
        if self.flexvol(&svm, &new).await?.is_none() {
            let source = self.volume_of(&svm, key).await?;
            let lun = self.lun(&svm, &self.name(key)).await?.ok_or_else(|| self.no_volume(key))?;
            growth(&volume.key, number(&lun, "/space/size").unwrap_or(0), volume.size_bytes, 1 << 20)?;
            let mut clone = json!({"parent_volume": {"name": text(&source, "/name")}, "is_flexclone": true});
            if let Some(snapshot) = snapshot {
                if self.snapshot(&source, snapshot).await?.is_none() {
                    return Err(self
                        .rest
                        .missing(format!("the snapshot {snapshot} of {key}"), "choose one that is there"));
                }
                clone["parent_snapshot"] = json!({"name": self.snapshot_name(snapshot)});
            }
            let body = json!({"name": new, "svm": {"name": svm.name}, "clone": clone, "comment": volume.name});
            let what = format!("copy {key} to {new}");
            self.call(&what, Method::POST, "/api/storage/volumes", &[], Some(body)).await?;
            let made =
                self.flexvol(&svm, &new).await?.ok_or_else(|| self.rest.failed(&what, "the copy is not there"))?;
            let path = format!("/api/storage/volumes/{}", text(&made, "/uuid").unwrap_or_default());
            // A copy that hangs on its parent would keep the parent from being removed.
            self.call(&what, Method::PATCH, &path, &[], Some(json!({"clone": {"split_initiated": true}}))).await?;
            if number(&made, "/size").unwrap_or(0) < around(volume.size_bytes) {
                self.call(&what, Method::PATCH, &path, &[], Some(json!({"size": around(volume.size_bytes)}))).await?;
            }
        }
        self.volume_ensure(volume).await
    }
}
