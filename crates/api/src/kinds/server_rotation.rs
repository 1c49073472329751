//! A password of its own for a BMC.

use engine::NewGroup;
use model::{
    job::{JobRefs, JobSpec, RetryPolicy, Target},
    order::{Order, ServerRotateCredentials},
};
use serde_json::json;

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    facts,
    kinds::{
        record,
        server::{find_locked, refuse_production},
        server_entry::next_password,
    },
    routes,
};

routes! {
    "rotateServerCredentials" => rotate,
}

/// The site gives our account of the BMC a new password and proves it; until then the old one is the one in use, here and there.
async fn rotate(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let found = find_locked(&ctx, &txn).await?;
    ctx.check_revision(found.revision)?;
    refuse_production(&found, "given another BMC password")?;
    let name = facts::server_name(&found);
    let address = found.bmc_address.as_deref().filter(|_| found.bmc_username.is_some() && found.bmc_password.is_some());
    let address = address.ok_or_else(|| ApiError::conflict(format!("the login of the BMC of {name} is not known")))?;
    if address.starts_with("ipmi://") {
        return Err(ApiError::conflict(format!(
            "the BMC of {name} is driven by IPMI, by which passwords are not changed here; change it there, then enter it with update-ipmi-credentials"
        )));
    }
    let title = format!("Give the BMC of {name} a password of its own");
    let spec = JobSpec {
        key: "rotate".into(),
        function: ServerRotateCredentials::NAME.into(),
        title: title.clone(),
        site_id: Some(found.site_id),
        target: Target { kind: "server".into(), id: found.id, generation: 0 },
        payload: serde_json::to_value(next_password(&ctx.app, &txn, &found).await?)?,
        depends_on: Vec::new(),
        retry: RetryPolicy::default(),
        timeout_seconds: 300,
        refs: JobRefs { server_id: Some(found.id), ..Default::default() },
        can_be_skipped: true,
        requires_confirmation: false,
    };
    let group = NewGroup {
        kind: "server_rotate_credentials".into(),
        description: title.clone(),
        params: json!({"serverId": found.id}),
        server_id: Some(found.id),
        site_id: Some(found.site_id),
        ..Default::default()
    };
    let made = ctx.app.engine().create_group(&txn, group, vec![spec]).await?;
    let info = json!({"jobGroupId": made.group_id, "jobId": made.job_ids.get("rotate")});
    record(&ctx, &txn, "server.rotate_credentials", title, ("server", found.id), info.clone()).await?;
    txn.commit().await?;
    ctx.app.engine().wake();
    ctx.app.wrote();
    Ok(Reply::Json(info))
}
