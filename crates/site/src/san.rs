//! Where volumes are: what arrays told of them, kept here, so that a machine finds the volume that it boots from whatever else is away.

use model::{
    Id,
    agent::IscsiVolume,
    snapshot::SiteServer,
    storage::{AccessState, Chap, InstanceStorage, VolumeState},
};
use netboot::backend::BackendError;
use sea_orm::{ActiveValue::Set, DbErr, EntityTrait, sea_query::OnConflict};
use serde_json::Value;

use crate::{Site, entity::volume};

/// What a host needs to find a volume.
struct Whereabouts {
    access: AccessState,
    wwn: Option<String>,
}

impl Site {
    /// Keeps what an array told of a volume.
    pub(crate) async fn volume_seen(&self, storage_id: Id, state: &VolumeState) -> Result<(), DbErr> {
        let row = volume::ActiveModel { wwn: Set(state.wwn.clone()), ..volume_row(storage_id, &state.key) };
        self.keep_volume(row, volume::Column::Wwn).await
    }

    /// Keeps how its hosts reach it.
    pub(crate) async fn volume_reached(&self, storage_id: Id, state: &AccessState) -> Result<(), DbErr> {
        let access = serde_json::to_value(state).unwrap_or(Value::Null);
        let row = volume::ActiveModel { access: Set(access), ..volume_row(storage_id, &state.key) };
        self.keep_volume(row, volume::Column::Access).await
    }

    /// The volume is gone.
    pub(crate) async fn volume_gone(&self, storage_id: Id, key: &str) -> Result<(), DbErr> {
        let txn = self.db.begin().await?;
        volume::Entity::delete_by_id((storage_id, key.to_owned())).exec(&txn).await?;
        txn.commit().await
    }

    async fn keep_volume(&self, row: volume::ActiveModel, column: volume::Column) -> Result<(), DbErr> {
        let txn = self.db.begin().await?;
        let key = [volume::Column::StorageId, volume::Column::Key];
        let known = OnConflict::columns(key).update_column(column).to_owned();
        volume::Entity::insert(row).on_conflict(known).exec_without_returning(&txn).await?;
        txn.commit().await
    }

    async fn whereabouts(&self, storage_id: Id, key: &str) -> Result<Option<Whereabouts>, DbErr> {
        let row = volume::Entity::find_by_id((storage_id, key.to_owned())).one(&self.db.read).await?;
        Ok(row.and_then(|r| Some(Whereabouts { access: serde_json::from_value(r.access).ok()?, wwn: r.wwn })))
    }

    /// The volume as its host is told of it; `Err`: why it cannot be reached, in words.
    fn path(&self, seen: Whereabouts, initiator: &str, chap: Option<&Chap>) -> Result<IscsiVolume, String> {
        let Whereabouts { access, wwn } = seen;
        let host = access.hosts.iter().find(|h| h.iqn == initiator);
        let host = host.ok_or_else(|| format!("the volume {} is not open to {initiator}; deploy again", access.key))?;
        let target = host.target.as_ref().or(access.target.as_ref());
        let target = target.ok_or_else(|| format!("the storage told no target of the volume {}", access.key))?;
        let chap = match chap {
            None => None,
            Some(chap) => {
                let secret = self.sealer.open(&chap.secret);
                let secret =
                    secret.map_err(|e| format!("the CHAP secret of {initiator} cannot be read: {e}; deploy again"))?;
                Some((chap.username.clone(), secret.0))
            }
        };
        Ok(IscsiVolume {
            initiator: initiator.to_owned(),
            target: target.clone(),
            lun: host.lun.unwrap_or(0),
            portals: access
                .portals
                .iter()
                .map(|p| (p.address.clone(), if p.port == 0 { 3260 } else { p.port }))
                .collect(),
            chap,
            wwn,
        })
    }

    /// The volume of an installation. `Ok(Err(…))`: why not, in words.
    pub(crate) async fn volume_of_install(
        &self,
        storage: &InstanceStorage,
    ) -> Result<Option<Result<IscsiVolume, String>>, DbErr> {
        let Some((storage_id, key)) = storage.boot_volume() else { return Ok(None) };
        let Some(seen) = self.whereabouts(storage_id, key).await? else {
            return Ok(Some(Err(format!(
                "this site has not been told how to reach the volume {key}; deploy its drive again"
            ))));
        };
        Ok(Some(self.path(seen, &storage.initiator_iqn, storage.chap.as_ref())))
    }

    /// The volume that a server boots from.
    pub(crate) async fn volume_of_server(&self, server: &SiteServer) -> Result<IscsiVolume, BackendError> {
        let unknown = || BackendError::new(format!("server {} boots from no volume that is known here", server.name));
        let san = server.san.as_ref().ok_or_else(unknown)?;
        let here = self.whereabouts(san.storage_id, &san.key).await.map_err(BackendError::new)?;
        // A site whose store is new goes by what was true at the last deploy.
        let seen = here.or_else(|| Some(Whereabouts { access: san.access.clone()?, wwn: san.wwn.clone() }));
        self.path(seen.ok_or_else(unknown)?, &san.initiator_iqn, san.chap.as_ref()).map_err(BackendError::new)
    }
}

fn volume_row(storage_id: Id, key: &str) -> volume::ActiveModel {
    volume::ActiveModel {
        storage_id: Set(storage_id),
        key: Set(key.to_owned()),
        access: Set(Value::Null),
        wwn: Set(None),
    }
}
