//! Migrations, per component: each crate with tables brings its own list.

use sea_orm::{
    ActiveModelTrait,
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, QueryFilter, QueryOrder, Schema, Statement, TransactionTrait,
    sea_query::{Index, IndexCreateStatement},
};

use crate::{Database, StoreError, entity, time};

/// One step. Steps are never changed once released.
#[derive(Clone, Copy)]
pub struct Migration {
    /// Counted from 1.
    pub version: i32,
    /// What it does.
    pub name: &'static str,
    /// Its statements for a database.
    pub up: fn(DbBackend) -> Vec<Statement>,
}

mod applied {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "schema_migration")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub component: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub version: i32,
        pub name: String,
        pub applied_at: String,
    }
    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

/// `create table if not exists` for an entity.
pub fn create_table<E: EntityTrait>(backend: DbBackend, entity: E) -> Statement {
    backend.build(Schema::new(backend).create_table_from_entity(entity).if_not_exists())
}

/// `create [unique] index if not exists` on columns of an entity.
pub fn create_index<E: EntityTrait>(backend: DbBackend, entity: E, unique: bool, columns: &[E::Column]) -> Statement {
    use sea_orm::{IdenStatic, Iterable};
    let _ = E::PrimaryKey::iter();
    let names: Vec<&str> = columns.iter().map(|c| c.as_str()).collect();
    let mut index: IndexCreateStatement = Index::create();
    index
        .name(format!("{}_{}_{}", if unique { "uq" } else { "ix" }, entity.table_name(), names.join("_")))
        .table(entity.table_ref())
        .if_not_exists();
    for column in columns {
        index.col(*column);
    }
    if unique {
        index.unique();
    }
    backend.build(&index)
}

pub(crate) async fn run(db: &Database, component: &str, migrations: &[Migration]) -> Result<(), StoreError> {
    let backend = db.backend();
    db.write.execute_raw(create_table(backend, applied::Entity)).await?;
    let newest = applied::Entity::find()
        .filter(applied::Column::Component.eq(component))
        .order_by_desc(applied::Column::Version)
        .one(&db.write)
        .await?
        .map_or(0, |m| m.version);
    let known = migrations.iter().map(|m| m.version).max().unwrap_or(0);
    if newest > known {
        return Err(StoreError::Newer { component: component.to_owned(), found: newest, known });
    }
    for migration in migrations.iter().filter(|m| m.version > newest) {
        let txn = db.write.begin().await?;
        for statement in (migration.up)(backend) {
            txn.execute_raw(statement).await?;
        }
        applied::ActiveModel {
            component: Set(component.to_owned()),
            version: Set(migration.version),
            name: Set(migration.name.to_owned()),
            applied_at: Set(time::now()),
        }
        .insert(&txn)
        .await?;
        txn.commit().await?;
        tracing::info!(component, version = migration.version, name = migration.name, "migrated");
    }
    Ok(())
}

/// Migrations of the Global Controller's own tables.
pub const GLOBAL: &[Migration] = &[Migration { version: 1, name: "first tables", up: entity::first_tables }];
