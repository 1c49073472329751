//! Buckets of a SeaweedFS server on the node, by `weed shell`.

use async_trait::async_trait;
use model::storage::BucketState;
use serde_json::Value;

use super::{Linux, SHORT};
use crate::{BucketSpec, MadeBucket, Object, StorageError, plan::growth, ssh::quote};

/// Quotas are whole megabytes.
const UNIT: u64 = 1 << 20;
/// What the owner of a bucket may do.
const ACTIONS: [&str; 4] = ["Read", "Write", "List", "Tagging"];

impl Linux {
    /// Runs commands of `weed shell`; it ends well whatever happened, and says `error: …`.
    async fn weed(&self, what: &str, commands: &str, secret: Option<&str>) -> Result<String, StorageError> {
        let script = format!("printf '%s\\n' {} | timeout 50 {} 2>&1", quote(commands), self.settings.weed);
        let hide =
            |text: &str| secret.filter(|s| !s.is_empty()).map_or_else(|| text.to_owned(), |s| text.replace(s, "…"));
        let done = self.ssh.run(&format!("{}{script}\n", super::PRELUDE), SHORT).await?;
        let error = done.out.lines().find(|l| l.trim_start().starts_with("error:"));
        match error {
            None if done.code == 0 => Ok(done.out),
            error => {
                let said = error.map_or_else(|| format!("{}\n{}", done.out, done.err), str::to_owned);
                Err(self.failed(what, &hide(&said)))
            }
        }
    }

    /// Size of a bucket's quota; `None`: no such bucket.
    async fn quota(&self, name: &str) -> Result<Option<(u64, u64)>, StorageError> {
        let out = self.weed("list buckets", "s3.bucket.list", None).await?;
        Ok(listed(&out, name))
    }

    /// The identities of the server, with their secrets.
    async fn identities(&self) -> Result<Vec<Value>, StorageError> {
        let out = self.weed("list identities", "s3.configure", None).await.map_err(|e| match e {
            // What it says could contain secrets.
            StorageError::Failed { storage, what, .. } => {
                StorageError::Failed { storage, what, reason: "weed shell failed".into() }
            }
            other => other,
        })?;
        let json = out.find('{').and_then(|from| out.rfind('}').map(|to| &out[from..=to])).unwrap_or("{}");
        let value: Value =
            serde_json::from_str(json).map_err(|_| self.failed("list identities", "its answer is no JSON"))?;
        Ok(value.get("identities").and_then(Value::as_array).cloned().unwrap_or_default())
    }
}

/// Quota and use of a bucket in the output of `s3.bucket.list`.
fn listed(text: &str, name: &str) -> Option<(u64, u64)> {
    let line = text.lines().find(|l| l.split_whitespace().next() == Some(name))?;
    let number = |field: &str| {
        let word = line.split_whitespace().find_map(|w| w.strip_prefix(field))?;
        word.parse::<u64>().ok()
    };
    Some((number("quota:").unwrap_or(0), number("size:").unwrap_or(0)))
}

fn is_exactly(identity: &Value, bucket: &BucketSpec, actions: &[String]) -> bool {
    let keys = identity.get("credentials").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let text = |v: &Value, k: &str| v.get(k).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut has: Vec<&str> =
        identity.get("actions").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let mut wants: Vec<&str> = actions.iter().map(String::as_str).collect();
    has.sort_unstable();
    wants.sort_unstable();
    keys.len() == 1
        && text(&keys[0], "accessKey") == bucket.access_key
        && text(&keys[0], "secretKey") == bucket.secret_key.0
        && has == wants
}

#[async_trait]
impl Object for Linux {
    async fn bucket_ensure(&self, bucket: &BucketSpec) -> Result<MadeBucket, StorageError> {
        let _turn = self.turn.lock().await;
        let name = self.name(&bucket.key);
        let word = |w: &str| !w.is_empty() && w.chars().all(|c| c.is_ascii_alphanumeric() || "+/=_-".contains(c));
        if !word(&bucket.access_key) || !word(&bucket.secret_key.0) {
            return Err(StorageError::Setting {
                storage: self.access.name.clone(),
                reason: format!(
                    "the key pair of {} has characters beside letters, digits and +/=_-; make a new one",
                    bucket.key
                ),
            });
        }
        let quota = self.quota(&name).await?;
        let mut commands = Vec::new();
        if quota.is_none() {
            commands.push(format!("s3.bucket.create -name {name}"));
        }
        let has = quota.map_or(0, |(q, _)| q);
        if let Some(size) = growth(&bucket.key, has, bucket.size_bytes, UNIT)? {
            commands.push(format!("s3.bucket.quota -name {name} -op=set -sizeMB={}", size / UNIT));
        }
        if !commands.is_empty() {
            self.weed(&format!("make the bucket {name}"), &commands.join("\n"), None).await?;
        }
        let actions: Vec<String> = ACTIONS.iter().map(|a| format!("{a}:{name}")).collect();
        let identities = self.identities().await?;
        let found = identities.iter().find(|i| i.get("name").and_then(Value::as_str) == Some(name.as_str()));
        if !found.is_some_and(|i| is_exactly(i, bucket, &actions)) {
            let mut commands = String::new();
            if found.is_some() {
                // A key that is given to an identity joins those that it has.
                commands = format!("s3.configure -user {name} -delete -apply\n");
            }
            commands.push_str(&format!(
                "s3.configure -user {name} -access_key {} -secret_key {} -buckets {name} -actions {} -apply",
                bucket.access_key,
                bucket.secret_key.0,
                ACTIONS.join(",")
            ));
            self.weed(&format!("give {name} its key"), &commands, Some(&bucket.secret_key.0)).await?;
        }
        // Buckets above their quota are closed for writing, those below opened.
        self.weed("enforce quotas", "s3.bucket.quota.enforce -apply", None).await?;
        let (size, used) = self
            .quota(&name)
            .await?
            .ok_or_else(|| self.failed(&format!("make the bucket {name}"), "it is not there afterwards"))?;
        Ok(MadeBucket {
            state: BucketState {
                key: bucket.key.clone(),
                bucket: name,
                endpoint: format!("http://{}:{}", self.settings.s3_host, self.settings.s3_port),
                region: None,
                size_bytes: size,
                used_bytes: Some(used),
                access_key: None,
                secret_key: None,
            },
            secret_key: None,
        })
    }

    async fn bucket_delete(&self, key: &str, _: Option<&str>) -> Result<(), StorageError> {
        let _turn = self.turn.lock().await;
        let name = self.name(key);
        let identities = self.identities().await?;
        if identities.iter().any(|i| i.get("name").and_then(Value::as_str) == Some(name.as_str())) {
            self.weed(
                &format!("take the key of {name} away"),
                &format!("s3.configure -user {name} -delete -apply"),
                None,
            )
            .await
            .map_err(|_| self.failed(&format!("take the key of {name} away"), "weed shell failed"))?;
        }
        if self.quota(&name).await?.is_some() {
            self.weed(&format!("remove the bucket {name}"), &format!("s3.bucket.delete -name {name}"), None).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn buckets_are_read_from_their_list() {
        let text = "  sy-bucket-1\tsize:7\tlogical:0\tchunk:0\tquota:10485760\tusage:0.00%\n  other\tsize:0\n";
        assert_eq!(super::listed(text, "sy-bucket-1"), Some((10_485_760, 7)));
        assert_eq!(super::listed(text, "other"), Some((0, 0)));
        assert_eq!(super::listed(text, "sy-bucket"), None);
    }
}
