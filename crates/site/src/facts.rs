//! What the site knows, kept in its store and, indexed, in memory.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock},
};

use model::{
    Id,
    snapshot::{Fact, SiteNetworkDevice, SiteServer, SiteSettings, SnapshotItem},
    template::ImageRef,
};
use netboot::view::SiteView;
use sea_orm::{ActiveValue::Set, ColumnTrait, DbErr, EntityTrait, QueryFilter, sea_query::OnConflict};
use store::Database;

use crate::entity::{fact, server_mac, value};

const GENERATION: &str = "snapshot_generation";

#[derive(Default)]
struct Known {
    generation: i64,
    all: HashMap<String, Fact>,
    /// MAC addresses that BMCs told of their servers.
    found_macs: HashMap<Id, Vec<String>>,
    /// The server that each of those was told for last.
    mac_owner: HashMap<String, Id>,
    view: Arc<SiteView>,
}

impl Known {
    /// A server with the MAC addresses that were found here.
    fn with_macs(&self, server: &SiteServer) -> SiteServer {
        let mut server = server.clone();
        server.macs.extend(self.found_macs.get(&server.id).into_iter().flatten().cloned());
        server.macs.sort();
        server.macs.dedup();
        server
    }

    /// Takes a fact into the view. A packet that is being answered keeps the view that it began with.
    fn show(&mut self, fact: &Fact) {
        let fact = match fact {
            Fact::Server(server) => Fact::Server(self.with_macs(server)),
            other => other.clone(),
        };
        Arc::make_mut(&mut self.view).put(fact);
    }

    fn show_server(&mut self, id: Id) {
        if let Some(fact) = self.all.get(&server_key(id)).cloned() {
            self.show(&fact);
        }
    }

    fn set(&mut self, item: SnapshotItem) {
        match item.value {
            Some(value) => {
                self.show(&value);
                self.all.insert(item.key, value);
            }
            None => {
                if let Some(old) = self.all.remove(&item.key) {
                    Arc::make_mut(&mut self.view).remove(&old);
                }
            }
        }
    }
}

fn server_key(id: Id) -> String {
    format!("server/{id}")
}

/// All facts.
pub(crate) struct Facts(RwLock<Known>);

impl Facts {
    pub(crate) async fn load(db: &Database) -> Result<Self, DbErr> {
        let mut known = Known {
            generation: value::Entity::find_by_id(GENERATION).one(&db.read).await?.map_or(0, |v| v.number),
            ..Known::default()
        };
        for row in fact::Entity::find().all(&db.read).await? {
            match serde_json::from_value(row.value) {
                Ok(fact) => {
                    known.all.insert(row.key, fact);
                }
                Err(error) => tracing::error!(key = row.key, %error, "a stored fact is not understood"),
            }
        }
        for row in server_mac::Entity::find().all(&db.read).await? {
            known.mac_owner.insert(row.mac.clone(), row.server_id);
            known.found_macs.entry(row.server_id).or_default().push(row.mac);
        }
        for fact in known.all.values().cloned().collect::<Vec<_>>() {
            known.show(&fact);
        }
        Ok(Self(RwLock::new(known)))
    }

    fn read<T>(&self, get: impl FnOnce(&Known) -> T) -> T {
        get(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn generation(&self) -> i64 {
        self.read(|k| k.generation)
    }

    pub(crate) fn view(&self) -> Arc<SiteView> {
        self.read(|k| k.view.clone())
    }

    /// A server, with the MAC addresses that were found here.
    pub(crate) fn server(&self, id: Id) -> Option<SiteServer> {
        self.read(|k| match k.all.get(&server_key(id)) {
            Some(Fact::Server(server)) => Some(k.with_macs(server)),
            _ => None,
        })
    }

    /// A look at the site's settings. Who holds the whole view makes its next change a copy of it.
    pub(crate) fn with_settings<T>(&self, look: impl FnOnce(&SiteSettings) -> T) -> T {
        self.read(|k| look(k.view.settings()))
    }

    /// Servers whose BMC may be asked.
    pub(crate) fn watched(&self) -> HashSet<Id> {
        let watched = |f: &Fact| match f {
            Fact::Server(s) if s.bmc.is_some() => Some(s.id),
            _ => None,
        };
        self.read(|k| k.all.values().filter_map(watched).collect())
    }

    pub(crate) fn network_device(&self, id: Id) -> Option<SiteNetworkDevice> {
        self.read(|k| match k.all.get(&format!("network_device/{id}")) {
            Some(Fact::NetworkDevice(device)) => Some(device.clone()),
            _ => None,
        })
    }

    pub(crate) fn storage(&self, id: Id) -> Option<model::storage::StorageTarget> {
        self.read(|k| match k.all.get(&format!("storage/{id}")) {
            Some(Fact::Storage(target)) => Some(target.clone()),
            _ => None,
        })
    }

    pub(crate) fn images(&self) -> Vec<ImageRef> {
        self.read(|k| {
            k.all.values().filter_map(|f| if let Fact::Image(i) = f { Some(i.clone()) } else { None }).collect()
        })
    }

    /// Takes changes over, in the store first. Older news than what is held changes nothing.
    pub(crate) async fn apply(&self, db: &Database, generation: i64, items: Vec<SnapshotItem>) -> Result<(), DbErr> {
        if generation <= self.generation() {
            return Ok(());
        }
        let txn = db.begin().await?;
        for item in &items {
            match &item.value {
                None => {
                    fact::Entity::delete_by_id(&item.key).exec(&txn).await?;
                }
                Some(value) => {
                    let value = serde_json::to_value(value).map_err(|e| DbErr::Custom(e.to_string()))?;
                    let row = fact::ActiveModel {
                        key: Set(item.key.clone()),
                        generation: Set(item.generation),
                        value: Set(value),
                    };
                    fact::Entity::insert(row)
                        .on_conflict(
                            OnConflict::column(fact::Column::Key)
                                .update_columns([fact::Column::Generation, fact::Column::Value])
                                .to_owned(),
                        )
                        .exec_without_returning(&txn)
                        .await?;
                }
            }
        }
        let row = value::ActiveModel { name: Set(GENERATION.into()), number: Set(generation) };
        value::Entity::insert(row)
            .on_conflict(OnConflict::column(value::Column::Name).update_column(value::Column::Number).to_owned())
            .exec_without_returning(&txn)
            .await?;
        txn.commit().await?;
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for item in items {
            known.set(item);
        }
        known.generation = generation;
        Ok(())
    }

    /// Remembers the MAC addresses that a server's BMC told.
    pub(crate) async fn found_macs(&self, db: &Database, server_id: Id, macs: &[String]) -> Result<(), DbErr> {
        let txn = db.begin().await?;
        server_mac::Entity::delete_many().filter(server_mac::Column::ServerId.eq(server_id)).exec(&txn).await?;
        for mac in macs {
            let row = server_mac::ActiveModel { mac: Set(mac.clone()), server_id: Set(server_id) };
            server_mac::Entity::insert(row)
                .on_conflict(
                    OnConflict::column(server_mac::Column::Mac).update_column(server_mac::Column::ServerId).to_owned(),
                )
                .exec_without_returning(&txn)
                .await?;
        }
        txn.commit().await?;
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let mut changed = vec![server_id];
        let known = &mut *known;
        for mac in macs {
            let before = known.mac_owner.insert(mac.clone(), server_id).filter(|before| *before != server_id);
            if let Some(before) = before
                && let Some(theirs) = known.found_macs.get_mut(&before)
            {
                theirs.retain(|m| m != mac);
                changed.push(before);
            }
        }
        for old in known.found_macs.insert(server_id, macs.to_vec()).into_iter().flatten() {
            if !macs.contains(&old) && known.mac_owner.get(&old) == Some(&server_id) {
                known.mac_owner.remove(&old);
            }
        }
        for id in changed {
            known.show_server(id);
        }
        Ok(())
    }
}
