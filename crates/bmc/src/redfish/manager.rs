//! The BMC itself: its restart, and our account on it.

use std::sync::PoisonError;

use async_trait::async_trait;
use model::secret::Clear;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Login, Redfish, link};
use crate::{Accounts, BmcError, BmcReset};

#[async_trait]
impl BmcReset for Redfish {
    async fn reset_bmc(&self) -> Result<(), BmcError> {
        let system = self.system().await?;
        let manager = self.manager(&system).await?;
        let reset = &manager["Actions"]["#Manager.Reset"];
        let target = reset.get("target").and_then(Value::as_str);
        let target = target.ok_or_else(|| self.unsupported("a restart of the BMC"))?;
        let allowed = self.allowed(reset, "ResetType").await?;
        let wanted = ["GracefulRestart", "ForceRestart"];
        let kind = wanted.iter().find(|w| allowed.iter().any(|a| a == *w));
        // Those that list nothing differ in what they take; all take an empty order or the first.
        let kind = kind.copied().or_else(|| allowed.is_empty().then_some(wanted[0]));
        let kind =
            kind.ok_or_else(|| self.unsupported(format!("a restart of the BMC (it offers {})", allowed.join(", "))))?;
        match self.ask(&Method::POST, target, Some(&json!({"ResetType": kind})), None).await {
            Ok(_) => {}
            // Some go away before they answer.
            Err(BmcError::Unreachable { cause, .. }) if cause.contains("broke") => {}
            Err(e) => return Err(e),
        }
        // Sessions do not survive it.
        *self.login.lock().await = Login::Unknown;
        Ok(())
    }
}

#[async_trait]
impl Accounts for Redfish {
    async fn change_password(&self, new: &Clear) -> Result<(), BmcError> {
        let accounts = self.collection("/redfish/v1/AccountService/Accounts", 64).await?;
        let ours = accounts
            .iter()
            .find(|a| a.get("UserName").and_then(Value::as_str) == Some(self.access.username.as_str()))
            .ok_or_else(|| {
                self.unsupported(format!("the account {} is not among its accounts", self.access.username))
            })?;
        let path = link(ours).ok_or_else(|| self.unsupported("an account without a path"))?;
        let answer = self.patch(path, &json!({"Password": new.0}), ours).await?;
        self.finish(answer, &format!("PATCH {path}")).await?;
        let old = std::mem::replace(&mut *self.password.write().unwrap_or_else(PoisonError::into_inner), new.clone());
        // Not all end the old sessions with the old password.
        self.close().await;
        let proved = async {
            let mut login = self.login.lock().await;
            self.log_in(&mut login).await?;
            drop(login);
            self.system().await.map(|_| ())
        };
        match proved.await {
            Err(BmcError::Unauthorized(address)) => {
                *self.password.write().unwrap_or_else(PoisonError::into_inner) = old;
                *self.login.lock().await = Login::Unknown;
                Err(BmcError::NoEffect {
                    address,
                    what: format!("the password of {} was to be changed", self.access.username),
                    found: "the old one".into(),
                    seconds: 0,
                })
            }
            other => other,
        }
    }
}
