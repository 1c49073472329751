//! Jobs about switches.

use engine::NewGroup;
use model::{
    job::{JobRefs, JobSpec, RetryPolicy, Target},
    order::Order,
};
use serde_json::json;
use store::entity::network_device;

use crate::error::ApiError;

/// Seconds that a switch is given for one of them.
const PATIENCE_SECONDS: u32 = 120;

/// A job of the site about one of its switches.
pub(crate) fn job<P: Order>(
    key: impl Into<String>,
    device: &network_device::Model,
    title: String,
    payload: &P,
    after: &[String],
) -> Result<JobSpec, ApiError> {
    Ok(JobSpec {
        key: key.into(),
        function: P::NAME.into(),
        title,
        site_id: Some(device.site_id),
        target: Target { kind: "network_device".into(), id: device.id, generation: 0 },
        payload: serde_json::to_value(payload)?,
        depends_on: after.to_vec(),
        retry: RetryPolicy::default(),
        timeout_seconds: PATIENCE_SECONDS,
        refs: JobRefs { network_device_id: Some(device.id), ..Default::default() },
        can_be_skipped: true,
        requires_confirmation: false,
    })
}

/// A group of jobs about one switch.
pub(crate) fn group(kind: &str, device: &network_device::Model, title: &str) -> NewGroup {
    NewGroup {
        kind: kind.into(),
        description: title.to_owned(),
        params: json!({"networkDeviceId": device.id}),
        network_device_id: Some(device.id),
        site_id: Some(device.site_id),
        ..Default::default()
    }
}
