//! DHCP leases in the site's store.

use std::{collections::BTreeMap, net::Ipv4Addr};

use async_trait::async_trait;
use netboot::{
    backend::{BackendError, Leases},
    dhcp::{Lease, LeaseChange},
};
use sea_orm::{ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, QueryFilter, Statement};
use serde_json::Value;
use store::Database;

use crate::entity::lease;

/// All leases of a batch, each one an object of one array: every word to the database goes to its thread and back, so that a statement a
/// lease would take many times as long.
const PUT: &str = "INSERT INTO dhcp_lease (address, mac, body) \
    SELECT json_extract(value, '$.address'), json_extract(value, '$.mac'), value FROM json_each(?1) WHERE true \
    ON CONFLICT (address) DO UPDATE SET mac = excluded.mac, body = excluded.body";

pub(crate) struct LeaseStore {
    pub(crate) db: Database,
}

async fn put(db: &impl ConnectionTrait, leases: Vec<&Lease>) -> Result<(), BackendError> {
    let all = serde_json::to_value(leases).map_err(BackendError::new)?;
    let text = Value::to_string(&all);
    db.execute_raw(Statement::from_sql_and_values(DbBackend::Sqlite, PUT, [text.into()]))
        .await
        .map_err(BackendError::new)?;
    Ok(())
}

#[async_trait]
impl Leases for LeaseStore {
    async fn load(&self) -> Result<Vec<Lease>, BackendError> {
        let rows = lease::Entity::find().all(&self.db.read).await.map_err(BackendError::new)?;
        // A lease that cannot be read is given up: its client asks again.
        Ok(rows.into_iter().filter_map(|r| serde_json::from_value(r.body).ok()).collect())
    }

    async fn save(&self, changes: &[LeaseChange]) -> Result<(), BackendError> {
        // The last word about an address counts.
        let mut last: BTreeMap<Ipv4Addr, Option<&Lease>> = BTreeMap::new();
        for change in changes {
            match change {
                LeaseChange::Put(lease) => last.insert(lease.address, Some(lease)),
                LeaseChange::Remove(address) => last.insert(*address, None),
            };
        }
        let puts: Vec<&Lease> = last.values().filter_map(|l| *l).collect();
        let removed: Vec<String> = last.iter().filter(|(_, l)| l.is_none()).map(|(a, _)| a.to_string()).collect();
        // One statement is a transaction by itself.
        if removed.is_empty() {
            return put(&self.db.write, puts).await;
        }
        let txn = self.db.begin().await.map_err(BackendError::new)?;
        for some in removed.chunks(500) {
            lease::Entity::delete_many()
                .filter(lease::Column::Address.is_in(some))
                .exec(&txn)
                .await
                .map_err(BackendError::new)?;
        }
        if !puts.is_empty() {
            put(&txn, puts).await?;
        }
        txn.commit().await.map_err(BackendError::new)
    }
}

#[cfg(test)]
mod tests {
    use netboot::dhcp::LeaseState;

    use super::*;

    fn lease(last: u8, mac: &str) -> Lease {
        Lease {
            address: Ipv4Addr::new(10, 0, 0, last),
            mac: mac.into(),
            state: LeaseState::Bound,
            expires_at: 10,
            pool_id: Some(1),
            hostname: Some("a \"name\"".into()),
        }
    }

    #[tokio::test]
    async fn what_was_stored_is_there_after_a_restart_and_the_last_word_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("site.db");
        let store = LeaseStore { db: crate::open(&path).await.unwrap() };
        let put = |l: &Lease| LeaseChange::Put(l.clone());
        let (one, two, three) = (lease(1, "a"), lease(2, "b"), lease(3, "c"));
        store.save(&[put(&one), put(&two)]).await.unwrap();
        store.save(&[put(&three), LeaseChange::Remove(one.address), put(&lease(2, "d"))]).await.unwrap();
        store.save(&[LeaseChange::Remove(three.address), put(&three), put(&lease(4, "e"))]).await.unwrap();
        store.save(&[put(&lease(4, "f")), LeaseChange::Remove(lease(4, "f").address)]).await.unwrap();
        store.db.close().await;
        let again = LeaseStore { db: crate::open(&path).await.unwrap() };
        let mut all = again.load().await.unwrap();
        all.sort_by_key(|l| l.address);
        assert_eq!(all, [lease(2, "d"), three]);
    }
}
