//! DHCP leases in the site's store.

use async_trait::async_trait;
use netboot::{
    backend::{BackendError, Leases},
    dhcp::{Lease, LeaseChange},
};
use sea_orm::{ActiveValue::Set, EntityTrait, sea_query::OnConflict};
use store::Database;

use crate::entity::lease;

pub(crate) struct LeaseStore {
    pub(crate) db: Database,
}

#[async_trait]
impl Leases for LeaseStore {
    async fn load(&self) -> Result<Vec<Lease>, BackendError> {
        let rows = lease::Entity::find().all(&self.db.read).await.map_err(BackendError::new)?;
        // A lease that cannot be read is given up: its client asks again.
        Ok(rows.into_iter().filter_map(|r| serde_json::from_value(r.body).ok()).collect())
    }

    async fn save(&self, changes: &[LeaseChange]) -> Result<(), BackendError> {
        let txn = self.db.begin().await.map_err(BackendError::new)?;
        for change in changes {
            match change {
                LeaseChange::Put(l) => {
                    let body = serde_json::to_value(l).map_err(BackendError::new)?;
                    let row = lease::ActiveModel {
                        address: Set(l.address.to_string()),
                        mac: Set(l.mac.clone()),
                        body: Set(body),
                    };
                    lease::Entity::insert(row)
                        .on_conflict(
                            OnConflict::column(lease::Column::Address)
                                .update_columns([lease::Column::Mac, lease::Column::Body])
                                .to_owned(),
                        )
                        .exec_without_returning(&txn)
                        .await
                        .map_err(BackendError::new)?;
                }
                LeaseChange::Remove(address) => {
                    lease::Entity::delete_by_id(address.to_string()).exec(&txn).await.map_err(BackendError::new)?;
                }
            }
        }
        txn.commit().await.map_err(BackendError::new)
    }
}
