//! Rows of the engine. Times are in wire form.

/// A group of jobs: one piece of work that somebody asked for.
#[allow(missing_docs)]
pub mod job_group {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel, serde::Serialize)]
    #[sea_orm(table_name = "job_group")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i64,
        /// `infrastructure_deploy`, `server_register`, …
        pub kind: String,
        pub description: String,
        pub created_at: String,
        pub finished_at: Option<String>,
        pub params: Json,
        /// Old and finished: in the archive's list only.
        pub archived: bool,
        /// The listener has heard of its end; true while there is nothing to tell.
        pub told: bool,
        pub infrastructure_id: Option<i64>,
        pub server_id: Option<i64>,
        pub network_device_id: Option<i64>,
        pub site_id: Option<i64>,
        pub cancel_reason: Option<String>,
    }
    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

/// A job.
#[allow(missing_docs)]
pub mod job {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel, serde::Serialize)]
    #[sea_orm(table_name = "job")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i64,
        pub group_id: i64,
        pub key: String,
        pub function: String,
        pub title: String,
        /// Who runs it; `None` for the Global Controller.
        pub site_id: Option<i64>,
        pub target_kind: String,
        pub target_id: i64,
        pub generation: i64,
        pub payload: Json,
        /// Word of [`model::job::JobStatus`].
        pub status: String,
        /// Grows with every change.
        pub sequence: i64,
        /// Dependencies not yet satisfied.
        pub blocked_by: i32,
        /// Not to be claimed before this time.
        pub due_at: String,
        pub call_count: i32,
        pub retry_count: i32,
        pub retry_max: i32,
        pub retry_min_seconds: i32,
        pub retry_max_seconds: i32,
        pub timeout_seconds: i32,
        pub can_be_skipped: bool,
        pub requires_confirmation: bool,
        /// `kill`, `stop_retrying`; empty otherwise.
        pub mark: String,
        /// Of the current attempt, 0 to 100.
        pub percent: i32,
        /// What is being done or waited for.
        pub message: Option<String>,
        /// Of the last failed attempt.
        pub error: Option<String>,
        /// What the function returned; JSON null before.
        pub response: Json,
        pub created_at: String,
        pub updated_at: String,
        pub started_at: Option<String>,
        pub finished_at: Option<String>,
        pub server_id: Option<i64>,
        pub instance_id: Option<i64>,
        pub network_device_id: Option<i64>,
        pub infrastructure_id: Option<i64>,
        /// Its group is in the archive.
        pub archived: bool,
        /// The listener has heard of its end; true while there is nothing to tell.
        pub told: bool,
    }
    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

/// "This job waits for that one."
#[allow(missing_docs)]
pub mod job_dependency {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "job_dependency")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub job_id: i64,
        #[sea_orm(primary_key, auto_increment = false)]
        pub depends_on: i64,
    }
    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

/// A failed attempt.
#[allow(missing_docs)]
pub mod job_attempt {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, serde::Serialize)]
    #[sea_orm(table_name = "job_attempt")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i64,
        pub job_id: i64,
        pub attempt: i32,
        pub started_at: String,
        pub ended_at: String,
        pub error: String,
    }
    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

/// The newest generation ordered for an object.
#[allow(missing_docs)]
pub mod object_generation {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "object_generation")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub kind: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub object_id: i64,
        pub generation: i64,
    }
    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}
