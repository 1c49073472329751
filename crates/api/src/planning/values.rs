//! Values for OS templates: variables and secrets that somebody keeps for them. A template sees those of the person who made it and those of
//! the infrastructure's owner, who comes first: what a tenant writes into a template of their own never shows somebody else's secrets.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crypto::Sealer;
use model::{
    Id,
    job::JobSpec,
    order::{Order, ServerInstall},
    secret::Sealed,
    template::OsInstall,
};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect};
use serde_json::{Map, Value};
use store::entity::{infrastructure, os_template, secret, variable};

use crate::error::ApiError;

/// The usage that is meant for operating systems; one that names no usage is good for all.
const USAGE: &str = "OSAsset";

pub(crate) fn for_systems(usage: Option<&String>) -> bool {
    usage.is_none_or(|u| u == USAGE)
}

/// Whether a template's texts speak of that secret.
fn wants(os: &OsInstall, name: &str) -> bool {
    os.texts().any(|t| t.contains("secrets") && t.contains(name))
}

/// The jobs with the values that their installations need. Secrets are sealed for the site; `sealer` is the one at rest.
pub async fn apply<C: ConnectionTrait>(
    db: &C,
    sealer: &Sealer,
    of: &infrastructure::Model,
    mut jobs: Vec<JobSpec>,
) -> Result<Vec<JobSpec>, ApiError> {
    let mut installs: Vec<(usize, ServerInstall)> = Vec::new();
    for (at, job) in jobs.iter().enumerate().filter(|(_, j)| j.function == ServerInstall::NAME) {
        installs.push((at, serde_json::from_value(job.payload.clone())?));
    }
    if installs.is_empty() {
        return Ok(jobs);
    }
    let templates: BTreeSet<Id> = installs.iter().map(|(_, i)| i.spec.os.template_id).collect();
    let makers: HashMap<Id, Id> = os_template::Entity::find()
        .select_only()
        .columns([os_template::Column::Id, os_template::Column::CreatedBy])
        .filter(os_template::Column::Id.is_in(templates))
        .into_tuple()
        .all(db)
        .await?
        .into_iter()
        .collect();
    let people: BTreeSet<Id> = makers.values().copied().chain([of.owner_id]).collect();
    let variables =
        variable::Entity::find().filter(variable::Column::UserIdOwner.is_in(people.clone())).all(db).await?;
    let secrets = secret::Entity::find().filter(secret::Column::UserIdOwner.is_in(people)).all(db).await?;
    let site = sealer.for_site(of.site_id);
    // One sealed value a secret, however many servers get it.
    let mut sealed: BTreeMap<Id, Sealed> = BTreeMap::new();
    for (at, mut install) in installs {
        let spec = &mut install.spec;
        // The later ones win.
        let order = [makers.get(&spec.os.template_id).copied(), Some(of.owner_id)];
        let mut kept: Map<String, Value> = Map::new();
        for person in order.into_iter().flatten() {
            let own = variables.iter().filter(|v| v.user_id_owner == person && for_systems(v.usage.as_ref()));
            kept.extend(own.map(|v| (v.name.clone(), v.value.clone())));
            let own = secrets.iter().filter(|s| s.user_id_owner == person && for_systems(s.usage.as_ref()));
            for s in own.filter(|s| wants(&spec.os, &s.name)) {
                let value = match sealed.get(&s.id) {
                    Some(known) => known.clone(),
                    None => {
                        let clear = sealer.open(&Sealed(s.value.clone())).map_err(|e| {
                            ApiError::conflict(format!("the secret {} cannot be opened ({e}); enter it again", s.name))
                        })?;
                        site.seal(&clear).map_err(ApiError::internal)?
                    }
                };
                sealed.insert(s.id, value.clone());
                spec.secrets.insert(s.name.clone(), value);
            }
        }
        // Those of the infrastructure and the group are nearer.
        kept.extend(std::mem::take(&mut spec.variables));
        spec.variables = kept;
        if let Some(job) = jobs.get_mut(at) {
            job.payload = serde_json::to_value(&install)?;
        }
    }
    Ok(jobs)
}
