//! OS templates as plans need them: many at once, in two queries.

use std::collections::BTreeMap;

use model::{
    Id,
    template::{ImageRef, OsInstall},
};
use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder};
use store::entity::{os_template, template_asset};

use super::design::Template;

/// Usages of an asset that make it the disk image, the best first.
const IMAGE: [&str; 3] = ["source_image", "image", "build_source_image"];

/// The templates of these ids.
pub async fn load<C: ConnectionTrait>(db: &C, ids: &[Id]) -> Result<BTreeMap<Id, Template>, DbErr> {
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let rows = os_template::Entity::find().filter(os_template::Column::Id.is_in(ids.to_vec())).all(db).await?;
    let assets = template_asset::Entity::find()
        .filter(template_asset::Column::OsTemplateId.is_in(ids.to_vec()))
        .order_by_asc(template_asset::Column::Id)
        .all(db)
        .await?;
    let mut own: BTreeMap<Id, Vec<&template_asset::Model>> = BTreeMap::new();
    for asset in &assets {
        own.entry(asset.os_template_id).or_default().push(asset);
    }
    Ok(rows.iter().map(|t| (t.id, template(t, own.get(&t.id).map_or(&[], Vec::as_slice)))).collect())
}

fn template(row: &os_template::Model, assets: &[&template_asset::Model]) -> Template {
    let word = |pointer: &str| row.body.pointer(pointer).and_then(serde_json::Value::as_str).map(str::to_owned);
    let image = IMAGE.iter().find_map(|usage| assets.iter().find(|a| a.usage == *usage && a.sha256.is_some()));
    // A text is known by its name (`user-data`, `templates/user-data.yaml`), as cloud-init calls it.
    let text = |name: &str| {
        let named = |a: &&&template_asset::Model| {
            [Some(&a.name), a.path.as_ref()]
                .into_iter()
                .flatten()
                .any(|n| n.rsplit('/').next().is_some_and(|n| n.split('.').next() == Some(name)))
        };
        let content = assets.iter().find(named)?.content.clone()?;
        String::from_utf8(content).ok()
    };
    let os = image.map(|image| OsInstall {
        template_id: row.id,
        name: row.name.clone(),
        os_name: word("/os/name").unwrap_or_else(|| row.name.clone()),
        os_version: word("/os/version").unwrap_or_default(),
        image: image_ref(image),
        user_data: text("user-data"),
        meta_data: text("meta-data"),
    });
    Template { os, username: word("/os/credential/username").filter(|u| !u.is_empty()) }
}

/// The image that an asset is.
pub fn image_ref(asset: &template_asset::Model) -> ImageRef {
    ImageRef {
        sha256: asset.sha256.clone().unwrap_or_default(),
        size: u64::try_from(asset.size).unwrap_or(0),
        format: asset.format.clone(),
        url: asset.url.clone(),
    }
}
