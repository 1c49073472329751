//! Revisions of a switch's configuration: branch, change, apply, confirm, fall back.

use std::collections::{BTreeMap, BTreeSet};

use rand::Rng;
use serde_json::{Value, json};

use super::config::{self, Issue};
use crate::topology::SwitchSpec;

/// Revisions that are kept.
const KEPT: usize = 64;

/// How a revision is to be applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApplyControls {
    /// "Are you sure" is answered yes.
    pub sure: bool,
    /// Seconds after which it falls back unless confirmed.
    pub confirm: Option<u64>,
}

/// One revision.
#[derive(Clone, Debug)]
pub struct Revision {
    /// State word of NVUE.
    pub state: &'static str,
    /// Progress text of NVUE.
    pub progress: &'static str,
    /// Problems: (code, place, text).
    pub issues: Vec<(&'static str, Option<String>, String)>,
    /// Changes against `base`, in the order in which they came.
    pub patches: Vec<Value>,
    /// Number of the applied configuration that it was branched from.
    pub base: u64,
    /// The branch.
    pub tree: Value,
    order: u64,
}

/// Configuration of a switch.
pub struct Config {
    /// In force.
    pub applied: Value,
    /// Saved.
    pub startup: Value,
    /// Revisions by id.
    pub revisions: BTreeMap<String, Revision>,
    /// Id of the revision in force.
    pub applied_id: String,
    /// What to fall back to, and whose it is, while a confirmation is awaited.
    fallback: Option<(String, Value, String)>,
    /// Counts applied revisions.
    number: u64,
    /// Leaves that applied revisions have touched: number and paths.
    history: Vec<(u64, String, BTreeSet<String>)>,
    created: u64,
}

impl Revision {
    /// As the API shows it.
    pub fn show(&self) -> Value {
        let issues: serde_json::Map<String, Value> = self
            .issues
            .iter()
            .enumerate()
            .map(|(n, (code, place, text))| {
                let data = place.as_ref().map_or(json!({}), |place| json!({"location": place, "reason": text}));
                (n.to_string(), json!({"code": code, "data": data, "message": text, "severity": "error"}))
            })
            .collect();
        json!({"state": self.state, "transition": {"issue": issues, "progress": self.progress}})
    }

    fn fail(
        &mut self,
        state: &'static str,
        progress: &'static str,
        issues: Vec<(&'static str, Option<String>, String)>,
    ) {
        self.state = state;
        self.progress = progress;
        self.issues = issues;
    }

    /// All changes as one patch.
    fn patch(&self) -> BTreeSet<String> {
        let mut paths = BTreeSet::new();
        for patch in &self.patches {
            config::touched(patch, "", &mut paths);
        }
        paths
    }
}

impl Config {
    /// Starts from this configuration, applied and saved.
    pub fn new(startup: Value) -> Self {
        Self {
            applied: startup.clone(),
            startup,
            revisions: BTreeMap::new(),
            applied_id: "startup".into(),
            fallback: None,
            number: 0,
            history: Vec::new(),
            created: 0,
        }
    }

    /// Branches a revision off the applied configuration.
    pub fn create(&mut self, user: &str) -> String {
        const LETTERS: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZ0123456789";
        let mut rng = rand::rng();
        let id = loop {
            let tail: String = (0..4).map(|_| char::from(LETTERS[rng.random_range(0..LETTERS.len())])).collect();
            let id = format!("changeset/{user}/{}_{tail}", chrono::Utc::now().format("%Y-%m-%d_%H.%M.%S"));
            if !self.revisions.contains_key(&id) {
                break id;
            }
        };
        self.created += 1;
        let revision = Revision {
            state: "pending",
            progress: "",
            issues: Vec::new(),
            patches: Vec::new(),
            base: self.number,
            tree: self.applied.clone(),
            order: self.created,
        };
        self.revisions.insert(id.clone(), revision);
        if self.revisions.len() > KEPT {
            let old = self
                .revisions
                .iter()
                .filter(|(id, r)| **id != self.applied_id && !matches!(r.state, "apply" | "verify" | "confirm"))
                .min_by_key(|(_, r)| r.order)
                .map(|(id, _)| id.clone());
            if let Some(old) = old {
                self.revisions.remove(&old);
            }
        }
        id
    }

    /// The tree under `rev`: `applied`, `startup`, `operational`, or a revision.
    pub fn tree(&self, rev: &str) -> Option<&Value> {
        match rev {
            "applied" | "operational" => Some(&self.applied),
            "startup" => Some(&self.startup),
            id => self.revisions.get(id).map(|revision| &revision.tree),
        }
    }

    /// Changes a revision. Errors: `None` for an unknown one, else the problem.
    pub fn patch(&mut self, id: &str, patch: Value) -> Result<(), Option<Issue>> {
        let refuse = |text: &str| Some(Issue { location: "/revision".into(), message: text.to_owned() });
        let revision = self.revisions.get_mut(id).ok_or(None)?;
        if !matches!(revision.state, "pending" | "invalid" | "ays_fail" | "apply_fail") {
            return Err(refuse(&format!("revision is {} and cannot be changed any more", revision.state)));
        }
        config::check_schema(&patch).map_err(Some)?;
        config::apply(&mut revision.tree, &patch);
        revision.patches.push(patch);
        if revision.state != "pending" {
            revision.fail("pending", "", Vec::new());
        }
        Ok(())
    }

    /// Deletes the whole configuration of a branch.
    pub fn clear(&mut self, id: &str) -> Result<(), Option<Issue>> {
        let keys: Vec<String> = match self.revisions.get(id).ok_or(None)?.tree.as_object() {
            Some(tree) => tree.keys().cloned().collect(),
            None => Vec::new(),
        };
        let patch = Value::Object(keys.into_iter().map(|key| (key, Value::Null)).collect());
        self.patch(id, patch)
    }

    /// Starts to apply: the state becomes `apply`.
    pub fn begin(&mut self, id: &str) -> Result<(), Option<Issue>> {
        let revision = self.revisions.get_mut(id).ok_or(None)?;
        match revision.state {
            "pending" | "invalid" | "ays_fail" | "apply_fail" => {
                revision.fail("apply", "", Vec::new());
                Ok(())
            }
            "applied" | "apply" | "verify" => Ok(()),
            state => Err(Some(Issue { location: "/revision".into(), message: format!("revision is {state}") })),
        }
    }

    /// Checks before applying: conflicts, validity, "are you sure". `false` when it ends here.
    pub fn verify(&mut self, id: &str, spec: &SwitchSpec, controls: &ApplyControls) -> bool {
        let pending = self.fallback.as_ref().map(|(id, ..)| id.clone());
        let Some(revision) = self.revisions.get_mut(id) else { return false };
        if revision.state != "apply" {
            return false;
        }
        if let Some(pending) = pending {
            let text = format!("{pending} waits for its confirmation");
            revision.fail("apply_fail", "Apply failed", vec![("apply_pending", None, text)]);
            return false;
        }
        // A branch of an older configuration is rebased; what somebody else has changed meanwhile is a conflict.
        let mine = revision.patch();
        let conflict =
            self.history.iter().filter(|(number, ..)| *number > revision.base).find_map(|(_, other, theirs)| {
                mine.iter()
                    .find(|path| theirs.iter().any(|their| config::overlaps(path, their)))
                    .map(|path| (other, path))
            });
        if let Some((other, path)) = conflict {
            let text = format!("{path} was changed by {other} after this revision was created");
            let place = path.trim_start_matches('/').replace('/', ".");
            revision.fail("invalid", "Invalid config", vec![("config_stale", Some(place), text)]);
            return false;
        }
        let mut rebased = self.applied.clone();
        for patch in &revision.patches {
            config::apply(&mut rebased, patch);
        }
        revision.tree = rebased;
        let issues = config::check_whole(&revision.tree, spec.ports);
        if !issues.is_empty() {
            let issues = issues.into_iter().map(|i| ("config_invalid", Some(i.location), i.message)).collect();
            revision.fail("invalid", "Invalid config", issues);
            return false;
        }
        if !controls.sure && revision.patches.iter().any(config::needs_confirmation) {
            let text = "Timeout while waiting for client response".to_owned();
            revision.fail("ays_fail", "Aborted apply after warnings", vec![("client_timeout", None, text)]);
            return false;
        }
        revision.state = "verify";
        revision.progress = "Reloading";
        true
    }

    /// Puts a verified revision in force. `false` when it failed.
    pub fn finish(&mut self, id: &str, controls: &ApplyControls, failure: Option<String>) -> bool {
        let Some(revision) = self.revisions.get_mut(id) else { return false };
        if let Some(failure) = failure {
            revision.fail("apply_fail", "Apply failed", vec![("apply_fail", None, failure)]);
            return false;
        }
        let before = std::mem::replace(&mut self.applied, revision.tree.clone());
        self.number += 1;
        self.history.push((self.number, id.to_owned(), revision.patch()));
        if self.history.len() > KEPT {
            self.history.remove(0);
        }
        if controls.confirm.is_some() {
            revision.state = "confirm";
            revision.progress = "Waiting for confirmation";
            self.fallback = Some((id.to_owned(), before, self.applied_id.clone()));
        } else {
            revision.state = "applied";
            revision.progress = "";
        }
        id.clone_into(&mut self.applied_id);
        true
    }

    /// Confirms; `false` when nothing waits for it.
    pub fn confirm(&mut self, id: &str) -> bool {
        if self.fallback.as_ref().is_none_or(|(waiting, ..)| waiting != id) {
            return false;
        }
        self.fallback = None;
        if let Some(revision) = self.revisions.get_mut(id) {
            revision.fail("applied", "", Vec::new());
        }
        true
    }

    /// Falls back when the revision is still unconfirmed; whether it did.
    pub fn confirm_timeout(&mut self, id: &str) -> bool {
        let Some((_, before, before_id)) = self.fallback.take_if(|(waiting, ..)| waiting == id) else { return false };
        self.applied = before;
        self.applied_id = before_id;
        self.number += 1;
        let paths = self.revisions.get(id).map(Revision::patch).unwrap_or_default();
        self.history.push((self.number, format!("the rollback of {id}"), paths));
        if let Some(revision) = self.revisions.get_mut(id) {
            let text = "Not confirmed in time; the configuration was rolled back".to_owned();
            revision.fail("confirm_fail", "Rolled back", vec![("confirm_timeout", None, text)]);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::YardConfig, topology::Topology};

    fn parts() -> (SwitchSpec, Config) {
        let spec = Topology::build(&YardConfig::default()).unwrap().switches.remove(0);
        let startup = super::super::startup_config(&spec, 100);
        (spec, Config::new(startup))
    }

    fn access(port: &str, vlan: u16) -> Value {
        json!({"interface": {port: {"bridge": {"domain": {"br_default": {"access": vlan}}}}}})
    }

    const SURE: ApplyControls = ApplyControls { sure: true, confirm: None };

    fn run(config: &mut Config, spec: &SwitchSpec, id: &str, controls: &ApplyControls) -> &'static str {
        config.begin(id).unwrap();
        if config.verify(id, spec, controls) {
            config.finish(id, controls, None);
        }
        config.revisions[id].state
    }

    #[test]
    fn a_branch_changes_nothing_until_it_is_applied() {
        let (spec, mut config) = parts();
        let id = config.create("cumulus");
        assert_eq!(config.revisions[&id].state, "pending");
        config.patch(&id, access("swp1", 210)).unwrap();
        let pointer = "/interface/swp1/bridge/domain/br_default/access";
        assert_eq!(config.tree(&id).unwrap().pointer(pointer), Some(&json!(210)));
        assert_eq!(config.applied.pointer(pointer), Some(&json!(100)));
        assert_eq!(run(&mut config, &spec, &id, &SURE), "applied");
        assert_eq!(config.applied.pointer(pointer), Some(&json!(210)));
        assert_eq!(config.startup.pointer(pointer), Some(&json!(100)), "applied is not saved");
        assert!(config.patch(&id, access("swp1", 1)).is_err(), "an applied revision is closed");
    }

    #[test]
    fn concurrent_revisions_merge_unless_they_touch_the_same_leaf() {
        let (spec, mut config) = parts();
        let (a, b, c) = (config.create("x"), config.create("x"), config.create("x"));
        config.patch(&a, access("swp1", 210)).unwrap();
        config.patch(&b, access("swp2", 220)).unwrap();
        config.patch(&c, access("swp1", 230)).unwrap();
        assert_eq!(run(&mut config, &spec, &a, &SURE), "applied");
        assert_eq!(run(&mut config, &spec, &b, &SURE), "applied");
        assert_eq!(config.applied.pointer("/interface/swp1/bridge/domain/br_default/access"), Some(&json!(210)));
        assert_eq!(run(&mut config, &spec, &c, &SURE), "invalid");
        assert_eq!(config.revisions[&c].issues[0].0, "config_stale");
    }

    #[test]
    fn invalid_configurations_name_the_place_and_can_be_corrected() {
        let (spec, mut config) = parts();
        let id = config.create("cumulus");
        config.patch(&id, access("swp99", 210)).unwrap();
        assert_eq!(run(&mut config, &spec, &id, &SURE), "invalid");
        let shown = config.revisions[&id].show();
        assert_eq!(shown.pointer("/transition/issue/0/data/location"), Some(&json!("interface.swp99")));
        config.patch(&id, json!({"interface": {"swp99": null}})).unwrap();
        assert_eq!(run(&mut config, &spec, &id, &SURE), "applied");
    }

    #[test]
    fn disruptive_changes_want_an_answer() {
        let (spec, mut config) = parts();
        let id = config.create("cumulus");
        config.patch(&id, json!({"interface": {"swp1": {"link": {"state": {"down": {}, "up": null}}}}})).unwrap();
        assert_eq!(run(&mut config, &spec, &id, &ApplyControls::default()), "ays_fail");
        assert_eq!(run(&mut config, &spec, &id, &SURE), "applied");
    }

    #[test]
    fn unconfirmed_revisions_fall_back() {
        let (spec, mut config) = parts();
        let controls = ApplyControls { sure: true, confirm: Some(60) };
        let before = config.applied.clone();
        let id = config.create("cumulus");
        config.patch(&id, access("swp1", 210)).unwrap();
        assert_eq!(run(&mut config, &spec, &id, &controls), "confirm");
        assert_ne!(config.applied, before);
        let other = config.create("cumulus");
        assert_eq!(run(&mut config, &spec, &other, &SURE), "apply_fail", "one confirmation at a time");
        assert!(config.confirm_timeout(&id));
        assert_eq!(config.applied, before);
        let id = config.create("cumulus");
        config.patch(&id, access("swp1", 210)).unwrap();
        assert_eq!(run(&mut config, &spec, &id, &controls), "confirm");
        assert!(config.confirm(&id) && !config.confirm_timeout(&id));
        assert_eq!(config.revisions[&id].state, "applied");
    }
}
