//! Settings of a Global Controller.

use std::path::PathBuf;

use serde::Deserialize;

/// Settings, from the `[global]` table of a TOML file. Environment variables `STEELYARD_GLOBAL_…` override them.
// No Debug: it holds a password, and the database address may hold another.
#[derive(Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GlobalConfig {
    /// Address of the interface and the web applications. Default `127.0.0.1:8080`.
    pub listen: String,
    /// Where sites connect. Default `127.0.0.1:8443`; empty: no sites.
    pub link_listen: String,
    /// Host names and addresses by which sites reach the link: its certificate is made for them, and the first is used in the enrolment
    /// command. Default `127.0.0.1` and `localhost`.
    pub link_names: Vec<String>,
    /// Folder of the embedded database and the keys. Default `.steelyard/global`.
    pub data_dir: PathBuf,
    /// `postgres://…`, or `sqlite://…`; default: SQLite in the data folder.
    pub database: Option<String>,
    /// E-mail address of the first administrator. Default `admin@steelyard.local`.
    pub admin_email: String,
    /// Password of the first administrator; one is made and printed when absent.
    pub admin_password: Option<String>,
}

impl Default for GlobalConfig {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".into(),
            link_listen: "127.0.0.1:8443".into(),
            link_names: vec!["127.0.0.1".into(), "localhost".into()],
            data_dir: ".steelyard/global".into(),
            database: None,
            admin_email: "admin@steelyard.local".into(),
            admin_password: None,
        }
    }
}

impl GlobalConfig {
    /// With overrides: `lookup` answers for the name of an environment variable.
    pub fn with_environment(mut self, lookup: impl Fn(&str) -> Option<String>) -> Self {
        let get = |name: &str| lookup(&format!("STEELYARD_GLOBAL_{name}"));
        if let Some(v) = get("LISTEN") {
            self.listen = v;
        }
        if let Some(v) = get("LINK_LISTEN") {
            self.link_listen = v;
        }
        if let Some(v) = get("LINK_NAMES") {
            self.link_names = v.split(',').map(|n| n.trim().to_owned()).filter(|n| !n.is_empty()).collect();
        }
        if let Some(v) = get("DATA_DIR") {
            self.data_dir = v.into();
        }
        self.database = get("DATABASE").or(self.database);
        if let Some(v) = get("ADMIN_EMAIL") {
            self.admin_email = v;
        }
        self.admin_password = get("ADMIN_PASSWORD").or(self.admin_password);
        self
    }

    /// Address of the database.
    pub fn database_url(&self) -> String {
        self.database
            .clone()
            .unwrap_or_else(|| format!("sqlite://{}?mode=rwc", self.data_dir.join("global.db").display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_wins() {
        let config =
            GlobalConfig::default().with_environment(|n| (n == "STEELYARD_GLOBAL_LISTEN").then(|| "0.0.0.0:80".into()));
        assert_eq!(config.listen, "0.0.0.0:80");
        assert!(config.database_url().starts_with("sqlite://.steelyard/global/"));
    }
}
