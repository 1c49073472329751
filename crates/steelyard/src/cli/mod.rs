//! The user's and the administrator's command line: thin commands over the REST interface.

pub mod apply;
pub mod certificate;
pub mod console;
pub mod kinds;
pub mod output;
pub mod profile;
pub mod watch;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use client::{Client, ListOptions};
use serde_json::{Value, json};

use self::{kinds::Kind, output::Format};

/// Where and how every command talks.
#[derive(Args, Clone)]
pub struct Connection {
    /// Address of the Global Controller; default: the one of `login`
    #[arg(long, global = true, env = "STEELYARD_SERVER")]
    pub server: Option<String>,
    /// API key or session token; default: the one of `login`
    #[arg(long, global = true, env = "STEELYARD_API_KEY", hide_env_values = true)]
    pub api_key: Option<String>,
    /// How to print
    #[arg(long, short, global = true, value_enum, default_value = "table")]
    pub output: Format,
}

impl Connection {
    /// A client, from flags, environment, or the stored login.
    pub fn client(&self) -> Result<Client> {
        let stored = profile::load();
        let server = self.server.clone().or_else(|| stored.as_ref().map(|p| p.server.clone())).context(
            "no server known; run `steelyard login --server http://HOST:8080` first, or set STEELYARD_SERVER",
        )?;
        let key = self.api_key.clone().or_else(|| stored.filter(|p| p.server == server).map(|p| p.token));
        Ok(Client::new(&server, key)?)
    }
}

/// `login`.
#[derive(Args)]
pub struct Login {
    /// E-mail address
    #[arg(long, env = "STEELYARD_EMAIL")]
    email: Option<String>,
    /// Password; asked for when absent
    #[arg(long, env = "STEELYARD_PASSWORD", hide_env_values = true)]
    password: Option<String>,
    /// Code of the authenticator, for users who have a second factor; asked for when absent
    #[arg(long)]
    code: Option<String>,
}

/// Logs in and remembers the token.
pub async fn login(connection: &Connection, login: Login) -> Result<()> {
    let server = connection
        .server
        .clone()
        .or_else(|| profile::load().map(|p| p.server))
        .context("which server? add --server http://HOST:8080")?;
    let email = match login.email {
        Some(email) => email,
        None => profile::ask("E-mail: ", false)?,
    };
    let password = match login.password {
        Some(password) => password,
        None => profile::ask("Password: ", true)?,
    };
    let client = Client::new(&server, None)?;
    let (mut client, user) = client.login(&email, &password).await?;
    if user.get("secondFactorRequired").and_then(Value::as_bool) == Some(true) {
        let code = match login.code {
            Some(code) => code,
            None => profile::ask("Code of your authenticator: ", false)?,
        };
        client = client.second_factor(&code).await?.0;
    }
    let token = match client.post("/user/api-keys", &json!({"name": "command line"})).await {
        Ok(key) => key.get("apiKey").and_then(Value::as_str).map(str::to_owned),
        Err(_) => None,
    };
    let token = token.context("the server gave no API key")?;
    profile::save(&profile::Profile { server: server.clone(), token })?;
    println!("Logged in at {server} as {}", user.get("email").and_then(Value::as_str).unwrap_or(&email));
    Ok(())
}

/// Verbs that every kind has.
#[derive(Subcommand, Debug)]
pub enum Verb {
    /// List objects
    List {
        /// Free text to search for
        #[arg(long)]
        search: Option<String>,
        /// `field=value` or `field=$op:value`; may be repeated
        #[arg(long = "filter", value_name = "FIELD=VALUE")]
        filters: Vec<String>,
        /// `field:ASC` or `field:DESC`
        #[arg(long = "sort")]
        sort: Vec<String>,
        /// Most rows to print
        #[arg(long)]
        limit: Option<usize>,
        /// Only of this parent (infrastructure, switch, group)
        #[arg(long)]
        of: Option<String>,
    },
    /// Show one object
    Get {
        /// Id or label
        id: String,
        /// Parent, for kinds that live within another (`dns-record`: the zone)
        #[arg(long)]
        of: Option<String>,
    },
    /// Create an object from fields or a file
    Create {
        /// `field=value`; JSON values are understood; may be repeated
        #[arg(long = "set", value_name = "FIELD=VALUE")]
        set: Vec<String>,
        /// YAML or JSON file with the body; `-` for standard input
        #[arg(long, short)]
        file: Option<String>,
        /// Parent (infrastructure) where the kind needs one
        #[arg(long)]
        of: Option<String>,
    },
    /// Change fields of an object
    Update {
        /// Id or label
        id: String,
        /// `field=value`; may be repeated
        #[arg(long = "set", value_name = "FIELD=VALUE", required = true)]
        set: Vec<String>,
        /// Parent, for kinds that live within another (`dns-record`: the zone)
        #[arg(long)]
        of: Option<String>,
    },
    /// Delete an object
    Delete {
        /// Id or label
        id: String,
        /// Parent, for kinds that live within another (`dns-record`: the zone)
        #[arg(long)]
        of: Option<String>,
    },
    /// Run an action of the interface on an object: `server action 7 set-power --set powerCommand=on`
    Action {
        /// Id or label
        id: String,
        /// Action, as in the interface: `set-power`, `re-register`, `retry`, `skip`…
        action: String,
        /// `field=value`; may be repeated
        #[arg(long = "set", value_name = "FIELD=VALUE")]
        set: Vec<String>,
        /// Parent, for kinds that live within another (`dns-record`: the zone)
        #[arg(long)]
        of: Option<String>,
    },
    /// Serial console of a server or server instance, in this terminal; `~.` leaves
    Console {
        /// Id or label
        id: String,
        /// Look, and type nothing
        #[arg(long)]
        read_only: bool,
        /// End the session that somebody else has at the BMC
        #[arg(long)]
        take_over: bool,
    },
}

/// Runs a verb on a kind.
pub async fn run(connection: &Connection, kind: &Kind, verb: Verb) -> Result<()> {
    let client = connection.client()?;
    match verb {
        Verb::List { search, filters, sort, limit, of } => {
            let path = kind.list_path(&client, of.as_deref()).await?;
            let filters = filters.iter().map(|f| pair(f)).collect::<Result<_>>()?;
            let rows = client.list(&path, &ListOptions { filters, sort, search, limit }).await?;
            output::rows(connection.output, kind.columns, &rows)
        }
        Verb::Get { id, of } => {
            let (_, row) = kind.find(&client, &id, of.as_deref()).await?;
            output::one(connection.output, &row)
        }
        Verb::Create { set, file, of } => {
            let mut body = match file {
                Some(file) => apply::read(&file)?,
                None => json!({}),
            };
            fields(&mut body, &set)?;
            let path = kind.create_path(&client, of.as_deref()).await?;
            let row = client.post(&path, &body).await?;
            output::one(connection.output, &row)
        }
        Verb::Update { id, set, of } => {
            let (path, row) = kind.find(&client, &id, of.as_deref()).await?;
            let mut body = json!({});
            // Where the whole object is put, what nobody sets stays.
            for name in kind.put.unwrap_or_default() {
                body[*name] = row.get(*name).cloned().unwrap_or_default();
            }
            fields(&mut body, &set)?;
            let path = format!("{path}{}", kind.update_suffix);
            let row = match kind.put {
                Some(_) => client.put(&path, &body, revision(&row)).await?,
                None => client.patch(&path, &body, revision(&row)).await?,
            };
            output::one(connection.output, &row)
        }
        Verb::Delete { id, of } => {
            let (path, row) = kind.find(&client, &id, of.as_deref()).await?;
            client.delete(&path, revision(&row)).await?;
            // What is deployed is only marked: it goes with the next deploy.
            let stays = client
                .get(&path)
                .await
                .is_ok_and(|now| now.pointer("/config/deployType").and_then(Value::as_str) == Some("delete"));
            let what = if stays { "Marked for deletion by the next deploy:" } else { "Deleted" };
            eprintln!("{what} {} {}", kind.name, kind.id_of(&row)?);
            Ok(())
        }
        Verb::Console { id, read_only, take_over } => {
            if !matches!(kind.path, "/servers" | "/server-instances") {
                bail!("servers and server instances have consoles; a {} has none", kind.name);
            }
            let (path, _) = kind.find(&client, &id, None).await?;
            console::run(&client, &path, read_only, take_over).await
        }
        Verb::Action { id, action, set, of } => {
            let (path, row) = kind.find(&client, &id, of.as_deref()).await?;
            let mut body = json!({});
            fields(&mut body, &set)?;
            let answer = client
                .call(reqwest::Method::POST, &format!("{path}/actions/{action}"), Some(&body), revision(&row))
                .await?;
            match answer {
                Value::Null => {
                    eprintln!("Done: {action}");
                    Ok(())
                }
                other => output::one(connection.output, &other),
            }
        }
    }
}

/// Revision of an object, as a number.
pub fn revision(row: &Value) -> Option<i64> {
    row.get("revision").and_then(|r| r.as_i64().or_else(|| r.as_str().and_then(|s| s.parse().ok())))
}

fn pair(text: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((field, value)) if !field.is_empty() => Ok((field.to_owned(), value.to_owned())),
        _ => bail!("{text:?}: write it as field=value"),
    }
}

/// Sets `a.b=value` pairs in a JSON object; values that are JSON are taken as such.
fn fields(body: &mut Value, set: &[String]) -> Result<()> {
    for text in set {
        let (field, value) = pair(text)?;
        let value = serde_json::from_str(&value).unwrap_or(Value::String(value));
        let mut at = &mut *body;
        let mut parts = field.split('.').peekable();
        while let Some(part) = parts.next() {
            let Some(map) = at.as_object_mut() else {
                bail!("{field}: {part:?} is inside something that is not an object")
            };
            if parts.peek().is_none() {
                map.insert(part.to_owned(), value.clone());
                break;
            }
            at = map.entry(part).or_insert_with(|| json!({}));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_nest_and_parse() {
        let mut body = json!({});
        fields(&mut body, &["a.b=1".into(), "name=web".into(), "on=true".into()]).unwrap();
        assert_eq!(body, json!({"a": {"b": 1}, "name": "web", "on": true}));
        assert!(fields(&mut body, &["name.x=1".into()]).is_err());
        assert!(fields(&mut body, &["oops".into()]).is_err());
    }
}
