//! Buckets of the S3 server. ONTAP makes the keys itself and shows a secret once.

use async_trait::async_trait;
use model::{secret::Clear, storage::BucketState};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Ontap, Svm};
use crate::{
    BucketSpec, MadeBucket, Object, StorageError,
    http::{number, text},
    plan::{NameRule, growth, object_name, round_up},
};

const BUCKETS: NameRule = NameRule { longest: 63, others: "-", lower: true };
/// ONTAP makes no bucket that is smaller.
const SMALLEST: u64 = 190 << 20;
const UNIT: u64 = 1 << 20;

impl Ontap {
    async fn bucket(&self, svm: &Svm, name: &str) -> Result<Option<Value>, StorageError> {
        let query = [("name", name), ("svm.name", &svm.name), ("fields", "uuid,size,logical_used_size")];
        self.one("look for a bucket", "/api/protocols/s3/buckets", &query).await
    }

    fn users(svm: &Svm) -> String {
        format!("/api/protocols/s3/services/{}/users", svm.uuid)
    }
}

#[async_trait]
impl Object for Ontap {
    async fn bucket_ensure(&self, bucket: &BucketSpec) -> Result<MadeBucket, StorageError> {
        let svm = self.svm().await?;
        let name = object_name(self.rest.access.prefix(), &bucket.key, BUCKETS);
        let what = format!("make the bucket {name}");
        let query =
            [("svm.name", svm.name.as_str()), ("fields", "name,is_http_enabled,is_https_enabled,port,secure_port")];
        let service = self.one("look for S3", "/api/protocols/s3/services", &query).await?;
        let service = service
            .ok_or_else(|| self.rest.missing("an S3 server".into(), "create one on the storage virtual machine"))?;
        let users = Self::users(&svm);
        let user = self.one(&what, &users, &[("name", &name), ("fields", "name,access_key")]).await?;
        let answer = match &user {
            // The key that we were told last is the one that it has.
            Some(user) if text(user, "/access_key").as_ref() == Some(&bucket.access_key) => None,
            Some(_) => {
                let path = format!("{users}/{name}");
                let query = [("regenerate_keys", "true")];
                Some(self.call(&what, Method::PATCH, &path, &query, Some(json!({}))).await?)
            }
            None => {
                let body = json!({"name": name, "comment": bucket.name});
                Some(self.call(&what, Method::POST, &users, &[], Some(body)).await?)
            }
        };
        let pair = match &answer {
            Some(answer) => {
                let pair = text(answer, "/records/0/access_key").zip(text(answer, "/records/0/secret_key"));
                Some(pair.ok_or_else(|| self.rest.failed(&what, "it made a key and did not tell it"))?)
            }
            None => None,
        };
        let wanted = Ord::max(bucket.size_bytes, SMALLEST);
        match self.bucket(&svm, &name).await? {
            None => {
                let body = json!({
                    "name": name, "svm": {"name": svm.name}, "size": round_up(wanted, UNIT), "comment": bucket.name,
                    "policy": {"statements": [{
                        "effect": "allow", "principals": [name], "resources": [name, format!("{name}/*")],
                        "actions": ["GetObject", "PutObject", "DeleteObject", "ListBucket", "GetBucketAcl", "GetObjectAcl",
                            "ListBucketMultipartUploads", "ListMultipartUploadParts"],
                    }]},
                });
                self.call(&what, Method::POST, "/api/protocols/s3/buckets", &[], Some(body)).await?;
            }
            Some(found) => {
                if let Some(size) = growth(&bucket.key, number(&found, "/size").unwrap_or(0), wanted, UNIT)? {
                    let path =
                        format!("/api/protocols/s3/buckets/{}/{}", svm.uuid, text(&found, "/uuid").unwrap_or_default());
                    self.call(&what, Method::PATCH, &path, &[], Some(json!({"size": size}))).await?;
                }
            }
        }
        let found =
            self.bucket(&svm, &name).await?.ok_or_else(|| self.rest.failed(&what, "it is not there afterwards"))?;
        let access = &self.rest.access;
        let host = match access.text("s3Hostname").map(str::to_owned) {
            Some(host) => host,
            None => {
                let portals = self.portals(&svm, "data_s3_server", "s3", 443).await?;
                let fallback = text(&service, "/name").unwrap_or_else(|| access.address.clone());
                portals.into_iter().next().map_or(fallback, |p| p.address)
            }
        };
        let secure = service.get("is_https_enabled") != Some(&json!(false));
        let (scheme, port, usual) = if secure {
            ("https", number(&service, "/secure_port").unwrap_or(443), 443)
        } else {
            ("http", number(&service, "/port").unwrap_or(80), 80)
        };
        let port = access.number("s3Port").unwrap_or(port);
        let endpoint = if port == usual { format!("{scheme}://{host}") } else { format!("{scheme}://{host}:{port}") };
        let (access_key, secret_key) = pair.map_or((None, None), |(a, s)| (Some(a), Some(Clear(s))));
        Ok(MadeBucket {
            state: BucketState {
                key: bucket.key.clone(),
                bucket: name,
                endpoint,
                region: None,
                size_bytes: number(&found, "/size").unwrap_or(0),
                used_bytes: number(&found, "/logical_used_size"),
                access_key,
                secret_key: None,
            },
            secret_key,
        })
    }

    async fn bucket_delete(&self, key: &str, _: Option<&str>) -> Result<(), StorageError> {
        let svm = self.svm().await?;
        let name = object_name(self.rest.access.prefix(), key, BUCKETS);
        let what = format!("remove the bucket {name}");
        let users = Self::users(&svm);
        if self.one(&what, &users, &[("name", &name), ("fields", "name")]).await?.is_some() {
            self.call(&what, Method::DELETE, &format!("{users}/{name}"), &[], None).await?;
        }
        if let Some(found) = self.bucket(&svm, &name).await? {
            let path = format!("/api/protocols/s3/buckets/{}/{}", svm.uuid, text(&found, "/uuid").unwrap_or_default());
            self.call(&what, Method::DELETE, &path, &[], None).await?;
        }
        Ok(())
    }
}
