//! What one end has to say, kept until the other end has dealt with it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use sea_orm::{
    ActiveModelTrait,
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, ExprTrait, OnConflict},
};
use store::Database;
use tokio::sync::watch;

/// The other end, and how far either is.
#[allow(missing_docs)]
pub mod peer {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "link_peer")]
    pub struct Model {
        /// A site's id; 0 is the Global Controller.
        #[sea_orm(primary_key, auto_increment = false)]
        pub peer: i64,
        /// Names this end's numbering.
        pub epoch: String,
        /// Number of the newest message.
        pub sent: i64,
        /// The other end's numbering, as last seen.
        pub peer_epoch: String,
        /// Newest message of the other end that was dealt with.
        pub handled: i64,
    }
    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

/// A message that waits.
#[allow(missing_docs)]
pub mod message {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "link_message")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub peer: i64,
        #[sea_orm(primary_key, auto_increment = false)]
        pub sequence: i64,
        /// Messages about the same subject replace one another.
        pub subject: Option<String>,
        pub body: Vec<u8>,
    }
    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

type Signals = HashMap<i64, (watch::Sender<()>, i64)>;

/// Messages read at once.
const BATCH: u64 = 64;

/// The queues of one end. Cheap to clone.
#[derive(Clone)]
pub struct Queue {
    db: Database,
    /// A signal a peer, with the number of its newest message when it was last woken.
    wakes: Arc<Mutex<Signals>>,
}

impl Queue {
    /// Queues in a database whose tables are [`crate::MIGRATIONS`].
    pub fn new(db: Database) -> Self {
        Self { db, wakes: Arc::default() }
    }

    /// Adds a message for `peer`, in the transaction of the change that it tells of; [`Queue::wake`] after the commit sends it.
    /// A message that waits with the same `subject` is replaced: only the newest news of it counts.
    ///
    /// Numbers are given out under the lock of the peer's row, so that a lower one is never committed after a higher one.
    pub async fn push(
        &self,
        txn: &DatabaseTransaction,
        peer: i64,
        subject: Option<&str>,
        body: &impl serde::Serialize,
    ) -> Result<i64, DbErr> {
        let body = serde_json::to_vec(body).map_err(|e| DbErr::Custom(format!("a message cannot be written: {e}")))?;
        ensure(txn, peer).await?;
        peer::Entity::update_many()
            .col_expr(peer::Column::Sent, Expr::col(peer::Column::Sent).add(1))
            .filter(peer::Column::Peer.eq(peer))
            .exec(txn)
            .await?;
        let sequence = one(txn, peer).await?.sent;
        if let Some(subject) = subject {
            message::Entity::delete_many()
                .filter(message::Column::Peer.eq(peer))
                .filter(message::Column::Subject.eq(subject))
                .exec(txn)
                .await?;
        }
        message::ActiveModel {
            peer: Set(peer),
            sequence: Set(sequence),
            subject: Set(subject.map(str::to_owned)),
            body: Set(body),
        }
        .insert(txn)
        .await?;
        Ok(sequence)
    }

    /// Sends now what waits for `peer`, a new snapshot included.
    pub fn wake(&self, peer: i64) {
        let wakes = self.wakes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((signal, _)) = wakes.get(&peer) {
            signal.send_replace(());
        }
    }

    /// Wakes every peer for which messages were added since the last call: for ends whose messages are added in others' transactions.
    pub async fn wake_changed(&self) -> Result<(), DbErr> {
        let newest = peer::Entity::find()
            .select_only()
            .columns([peer::Column::Peer, peer::Column::Sent])
            .into_tuple::<(i64, i64)>()
            .all(&self.db.read)
            .await?;
        let mut wakes = self.wakes.lock().unwrap_or_else(PoisonError::into_inner);
        for (peer, sent) in newest {
            if let Some((signal, known)) = wakes.get_mut(&peer)
                && *known != sent
            {
                *known = sent;
                signal.send_replace(());
            }
        }
        Ok(())
    }

    pub(crate) fn wakes(&self, peer: i64) -> watch::Receiver<()> {
        let mut wakes = self.wakes.lock().unwrap_or_else(PoisonError::into_inner);
        wakes.entry(peer).or_insert_with(|| (watch::Sender::new(()), 0)).0.subscribe()
    }

    /// Messages that wait for `peer`.
    pub async fn waiting(&self, peer: i64) -> Result<u64, DbErr> {
        use sea_orm::PaginatorTrait;
        message::Entity::find().filter(message::Column::Peer.eq(peer)).count(&self.db.read).await
    }

    /// How far both ends are.
    pub(crate) async fn state(&self, peer: i64) -> Result<peer::Model, DbErr> {
        let txn = self.db.begin().await?;
        ensure(&txn, peer).await?;
        let found = one(&txn, peer).await?;
        txn.commit().await?;
        Ok(found)
    }

    /// The other end counts from `epoch`: a new one begins at zero. Answers whether it is new, where another was known before.
    pub(crate) async fn meet(&self, peer: i64, epoch: &str) -> Result<bool, DbErr> {
        let before = self.state(peer).await?;
        if before.peer_epoch == epoch {
            return Ok(false);
        }
        let txn = self.db.begin().await?;
        peer::Entity::update_many()
            .col_expr(peer::Column::PeerEpoch, Expr::value(epoch))
            .col_expr(peer::Column::Handled, Expr::value(0))
            .filter(peer::Column::Peer.eq(peer))
            .exec(&txn)
            .await?;
        txn.commit().await?;
        Ok(!before.peer_epoch.is_empty())
    }

    /// The next messages after `sequence`.
    pub(crate) async fn after(&self, peer: i64, sequence: i64) -> Result<Vec<message::Model>, DbErr> {
        message::Entity::find()
            .filter(message::Column::Peer.eq(peer))
            .filter(message::Column::Sequence.gt(sequence))
            .order_by_asc(message::Column::Sequence)
            .limit(BATCH)
            .all(&self.db.read)
            .await
    }

    /// The other end has dealt with all up to `sequence`.
    pub(crate) async fn delivered(&self, peer: i64, sequence: i64) -> Result<(), DbErr> {
        let txn = self.db.begin().await?;
        message::Entity::delete_many()
            .filter(message::Column::Peer.eq(peer))
            .filter(message::Column::Sequence.lte(sequence))
            .exec(&txn)
            .await?;
        txn.commit().await
    }

    /// This end has dealt with all up to `sequence`.
    pub(crate) async fn handled(&self, peer: i64, sequence: i64) -> Result<(), DbErr> {
        let txn = self.db.begin().await?;
        peer::Entity::update_many()
            .col_expr(peer::Column::Handled, Expr::value(sequence))
            .filter(peer::Column::Peer.eq(peer))
            .exec(&txn)
            .await?;
        txn.commit().await
    }
}

async fn ensure<C: ConnectionTrait>(txn: &C, peer: i64) -> Result<(), DbErr> {
    let first = peer::ActiveModel {
        peer: Set(peer),
        epoch: Set(crypto::token::random()[..16].to_owned()),
        sent: Set(0),
        peer_epoch: Set(String::new()),
        handled: Set(0),
    };
    peer::Entity::insert(first)
        .on_conflict(OnConflict::column(peer::Column::Peer).do_nothing().to_owned())
        .exec_without_returning(txn)
        .await?;
    Ok(())
}

async fn one<C: ConnectionTrait>(txn: &C, peer: i64) -> Result<peer::Model, DbErr> {
    peer::Entity::find_by_id(peer).one(txn).await?.ok_or_else(|| DbErr::RecordNotFound(format!("link peer {peer}")))
}
