//! `infiniband.partition`: partitions of managed InfiniBand fabrics. No driver of a subnet manager is here yet: the order is refused in words
//! rather than left for ever, and nothing is changed.

use async_trait::async_trait;
use engine::{JobContext, JobError, JobFunction, Outcome};
use model::{infiniband::IbPartition, order::Order};

/// The function.
pub(super) struct IbPartitionFunction;

#[async_trait]
impl JobFunction for IbPartitionFunction {
    fn name(&self) -> &'static str {
        IbPartition::NAME
    }

    async fn run(&self, ctx: JobContext) -> Result<Outcome, JobError> {
        let order: IbPartition = ctx.payload()?;
        Err(JobError::fatal(format!(
            "partition 0x{:04x} of network {} cannot be set: this site has no driver for the subnet manager of fabric {}. Set it there by hand ({} port(s) come in, {} go) and skip this job, or have the fabric done outside (serverOnlyOperationEnabled)",
            order.pkey,
            order.label,
            order.fabric_id,
            order.add.len(),
            order.remove.len()
        )))
    }
}
