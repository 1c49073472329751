//! `infrastructure.finish`: what was planned is now deployed.

use async_trait::async_trait;
use crypto::Sealer;
use engine::{JobContext, JobError, JobFunction, Outcome};
use model::order::Order;
use serde_json::json;
use store::Database;

/// Records the end of a deploy.
pub struct InfrastructureFinish {
    db: Database,
    sealer: Sealer,
}

impl InfrastructureFinish {
    /// On the Global Controller's database, with its sealer.
    pub fn new(db: Database, sealer: Sealer) -> Self {
        Self { db, sealer }
    }
}

#[async_trait]
impl JobFunction for InfrastructureFinish {
    fn name(&self) -> &'static str {
        planner::InfrastructureFinish::NAME
    }

    async fn run(&self, ctx: JobContext) -> Result<Outcome, JobError> {
        let order: planner::InfrastructureFinish = ctx.payload()?;
        let txn = self.db.begin().await?;
        let recorded = api::planning::finish::record(&txn, &self.sealer, order.generation, Some(ctx.job.group_id))
            .await
            .map_err(JobError::retry)?;
        txn.commit().await?;
        Ok(Outcome::Done(json!({"recorded": recorded})))
    }
}
