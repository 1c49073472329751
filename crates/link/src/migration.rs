//! Tables of the queues.

use store::{
    Migration,
    migration::{create_index, create_table},
};

use crate::queue::{message, peer};

/// Migrations of the component `link`, at either end.
pub const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "queues",
    up: |backend| {
        vec![
            create_table(backend, peer::Entity),
            create_table(backend, message::Entity),
            create_index(backend, message::Entity, false, &[message::Column::Peer, message::Column::Subject]),
        ]
    },
}];
