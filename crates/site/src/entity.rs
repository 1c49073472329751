//! The site's own tables.

use store::{
    Migration,
    migration::{create_index, create_table},
};

/// Facts of the snapshot.
pub mod fact {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "site_fact")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub key: String,
        pub generation: i64,
        pub value: Json,
    }
    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

/// MAC addresses that a BMC told of its server: known here before the Global Controller sends them back as a fact.
pub mod server_mac {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "server_mac")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub mac: String,
        pub server_id: i64,
    }
    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

/// Why a machine may boot from the network.
pub mod boot_session {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "boot_session")]
    pub struct Model {
        /// The job that asked for it.
        #[sea_orm(primary_key, auto_increment = false)]
        pub job_id: i64,
        pub server_id: i64,
        /// [`model::boot::BootSession`] without its token.
        pub body: Json,
        /// Digest of the token.
        pub token_hash: String,
        /// The token, sealed.
        pub token: String,
        /// Word of [`crate::session::Stage`].
        pub stage: String,
        pub percent: i32,
        pub message: String,
        pub error: Option<String>,
        pub inventory: Json,
        /// What the agent told of each disk that it erased.
        pub erased: Json,
        /// When the agent was last heard, in seconds since 1970; 0 before its first word.
        pub heard_at: i64,
        pub begun_at: i64,
        /// crypt(3) hash of the new system's password.
        pub password_hash: String,
        /// SHA-256 of the certificate of the machine that this boot is bound to; empty before its first word.
        pub machine: String,
    }
    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

/// MAC addresses of live sessions.
pub mod boot_session_mac {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "boot_session_mac")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub mac: String,
        pub job_id: i64,
    }
    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

/// DHCP leases.
pub mod lease {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "dhcp_lease")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub address: String,
        pub mac: String,
        pub body: Json,
    }
    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

/// How far a long piece of work through a BMC has come.
pub mod bmc_work {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "bmc_work")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub job_id: i64,
        pub server_id: i64,
        /// `firmware`, `iso` or `reset`.
        pub kind: String,
        /// What is being done; each function has its own words, all begin with `begin`.
        pub stage: String,
        /// By what the BMC is asked for its progress.
        pub task: String,
        pub version_before: Option<String>,
        /// Digest of an image that was known by its place alone.
        pub sha256: Option<String>,
        pub starts: i32,
        pub was_on: bool,
        /// What was reached, for the job's answer.
        pub notes: Option<String>,
        /// Seconds since 1970, of the stage.
        pub since: i64,
        /// When the job looked last.
        pub looked_at: i64,
    }
    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}

    /// Work that begins now.
    pub fn begin(job_id: i64, server_id: i64, kind: &str, now: i64) -> Model {
        Model {
            job_id,
            server_id,
            kind: kind.to_owned(),
            stage: "begin".to_owned(),
            task: String::new(),
            version_before: None,
            sha256: None,
            starts: 0,
            was_on: false,
            notes: None,
            since: now,
            looked_at: now,
        }
    }
}

/// Where volumes are, and who may use them, as their storages told last.
pub mod volume {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "volume")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub storage_id: i64,
        #[sea_orm(primary_key, auto_increment = false)]
        pub key: String,
        /// [`model::storage::AccessState`], or null.
        pub access: Json,
        /// World wide name.
        pub wwn: Option<String>,
    }
    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

/// Our subscription at a BMC, with the way to it: it has to be taken away when the server is gone.
pub mod bmc_subscription {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "bmc_subscription")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub server_id: i64,
        /// [`model::bmc::BmcEndpoint`], its password sealed.
        pub endpoint: Json,
        /// Path of the subscription at the BMC.
        pub path: String,
        /// What its destination begins with.
        pub ours: String,
        /// Seconds since 1970.
        pub checked_at: i64,
    }
    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

/// SSH host keys of BMCs, as they were met first.
pub mod console_key {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "console_key")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub server_id: i64,
        /// Digest of the address and certificate for which the key counts.
        pub bound: String,
        pub sha256: String,
    }
    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

/// A few single values: the generation of the snapshot.
pub mod value {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "site_value")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub name: String,
        pub number: i64,
    }
    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

/// Migrations of the component `site`.
pub const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "first tables",
    up: |backend| {
        vec![
            create_table(backend, fact::Entity),
            create_table(backend, server_mac::Entity),
            create_table(backend, boot_session::Entity),
            create_table(backend, boot_session_mac::Entity),
            create_table(backend, lease::Entity),
            create_table(backend, value::Entity),
            create_table(backend, volume::Entity),
            create_table(backend, bmc_work::Entity),
            create_table(backend, console_key::Entity),
            create_table(backend, bmc_subscription::Entity),
            create_index(backend, bmc_work::Entity, false, &[bmc_work::Column::ServerId]),
            create_index(backend, lease::Entity, false, &[lease::Column::Mac]),
            create_index(backend, server_mac::Entity, false, &[server_mac::Column::ServerId]),
            create_index(backend, boot_session::Entity, true, &[boot_session::Column::TokenHash]),
        ]
    },
}];
