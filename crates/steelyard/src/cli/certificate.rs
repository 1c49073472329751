//! Cleaning certificates checked without any server: whether the words are those that the site has signed.

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// What a certificate's file holds that counts.
struct Signed {
    statement: String,
    public_key: String,
    signature: String,
}

/// From the answer of the interface, its `signed` part, or what a site wrote.
fn parse(text: &str) -> Result<Signed> {
    let value: Value = serde_json::from_str(text).context("the file is no JSON")?;
    let signed = value.get("signed").filter(|s| s.is_object()).unwrap_or(&value);
    let word = |names: [&str; 2]| names.iter().find_map(|n| signed.get(*n).and_then(Value::as_str)).map(str::to_owned);
    let (Some(statement), Some(public_key), Some(signature)) =
        (word(["statement", "statement"]), word(["publicKey", "public_key"]), word(["signature", "signature"]))
    else {
        bail!(
            "there is no signed statement in it; give the answer of GET /servers/cleaning-certificates/ID. A cleaning that failed is not signed"
        );
    };
    Ok(Signed { statement, public_key, signature })
}

/// What does not agree between the certificate around it and the signed words.
fn contradictions(text: &str, statement: &Value) -> Vec<String> {
    let shown: Value = serde_json::from_str(text).unwrap_or_default();
    if shown.get("signed").is_none() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (field, signed) in [("serverId", "server_id"), ("siteId", "site_id"), ("jobId", "job_id")] {
        if shown.get(field).and_then(Value::as_i64) != statement.get(signed).and_then(Value::as_i64) {
            found.push(format!("{field} is another one than what was signed"));
        }
    }
    let list = |v: &Value| v.get("disks").and_then(Value::as_array).cloned().unwrap_or_default();
    let disks = |all: Vec<Value>, serial: &str, checked: &str| -> Vec<(Value, Value, Value, Value)> {
        let of = |d: &Value, name: &str| d.get(name).cloned().unwrap_or_default();
        all.iter().map(|d| (of(d, "name"), of(d, serial), of(d, "erased"), of(d, checked))).collect()
    };
    if disks(list(&shown), "serialNumber", "verification") != disks(list(statement), "serial", "verified") {
        found.push("the disks are others than those that were signed".to_owned());
    }
    found
}

/// Checks one, and says what it states.
pub fn verify(file: &str, key: Option<&str>) -> Result<()> {
    let text = if file == "-" {
        std::io::read_to_string(std::io::stdin())?
    } else {
        std::fs::read_to_string(file).with_context(|| format!("reading {file}"))?
    };
    for line in check(&text, key)? {
        println!("{line}");
    }
    Ok(())
}

fn check(text: &str, key: Option<&str>) -> Result<Vec<String>> {
    let signed = parse(text)?;
    if !crypto::signature::verify(&signed.public_key, signed.statement.as_bytes(), &signed.signature) {
        bail!(
            "the signature does NOT hold: the words were changed after they were signed, or were never signed by this key"
        );
    }
    if let Some(wanted) = key
        && !wanted.trim().eq_ignore_ascii_case(&signed.public_key)
    {
        bail!("it is signed by key {}, and NOT by {}", signed.public_key, wanted.trim());
    }
    let statement: Value = serde_json::from_str(&signed.statement).context("what was signed is no statement")?;
    if statement.get("kind").and_then(Value::as_str) != Some("steelyard.cleaning/1") {
        bail!("what was signed is no statement of a cleaning");
    }
    let against = contradictions(text, &statement);
    if !against.is_empty() {
        bail!("the certificate says something else than what was signed: {}", against.join("; "));
    }
    let word = |v: &Value, name: &str| match v.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => "-".to_owned(),
        Some(other) => other.to_string(),
    };
    let mut lines = vec![
        format!("Signature holds. Key {}", signed.public_key),
        format!(
            "Server {} (site {}, job {}), policy {}, method {}, from {} to {}",
            word(&statement, "server"),
            word(&statement, "site_id"),
            word(&statement, "job_id"),
            word(&statement, "policy"),
            word(&statement, "method"),
            word(&statement, "started_at"),
            word(&statement, "finished_at")
        ),
    ];
    for disk in statement.get("disks").and_then(Value::as_array).into_iter().flatten() {
        let erased = if disk.get("erased").and_then(Value::as_bool) == Some(true) { "ERASED" } else { "NOT ERASED" };
        lines.push(format!(
            "  {erased} {} {} {}: {} ({}); {}",
            word(disk, "name"),
            word(disk, "serial"),
            word(disk, "model"),
            word(disk, "method"),
            word(disk, "standard"),
            word(disk, "verified")
        ));
    }
    for step in statement.get("steps").and_then(Value::as_array).into_iter().flatten() {
        let done = if step.get("done").and_then(Value::as_bool) == Some(true) { "DONE" } else { "NOT DONE" };
        lines.push(format!("  {done} {}: {}", word(step, "what"), word(step, "words")));
    }
    if key.is_none() {
        lines.push("Whose key that is, a signature cannot say: compare it with statements.pub in the data folder of the site, and give it with --key.".to_owned());
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test should stop")]
    use serde_json::json;

    use super::*;

    fn signed() -> (Value, String) {
        let statement = json!({
            "kind": "steelyard.cleaning/1", "site_id": 1, "server_id": 2, "server": "S1", "job_id": 3, "policy": "purge", "method": "auto",
            "started_at": "a", "finished_at": "b",
            "disks": [{"name": "sda", "serial": "D1", "erased": true, "method": "ATA sanitize, block erase", "standard": "purge", "verified": "512 places"}],
            "steps": [{"what": "Trusted platform module", "done": true, "words": "cleared"}],
        });
        let text = statement.to_string();
        let (key, public) = crypto::signature::generate().unwrap();
        let signature = crypto::signature::sign(&key, text.as_bytes()).unwrap();
        let certificate = json!({
            "id": 9, "serverId": 2, "siteId": 1, "jobId": 3,
            "disks": [{"name": "sda", "serialNumber": "D1", "erased": true, "verification": "512 places"}],
            "signed": {"statement": text, "publicKey": public, "signature": signature},
        });
        (certificate, public)
    }

    #[test]
    fn a_certificate_is_checked_without_a_server() {
        let (certificate, key) = signed();
        let said = check(&certificate.to_string(), None).unwrap().join("\n");
        assert!(
            said.contains("ERASED sda D1") && said.contains("DONE Trusted platform module") && said.contains("--key"),
            "{said}"
        );
        assert!(check(&certificate.to_string(), Some(&key.to_uppercase())).is_ok());
        assert!(check(&certificate.to_string(), Some("00")).unwrap_err().to_string().contains("NOT by 00"));
        assert!(check(&certificate["signed"].to_string(), Some(&key)).is_ok(), "the signed part alone");
    }

    #[test]
    fn what_was_changed_is_found() {
        let (certificate, _) = signed();
        let mut words = certificate.clone();
        words["signed"]["statement"] = json!(certificate["signed"]["statement"].as_str().unwrap().replace("D1", "D2"));
        assert!(check(&words.to_string(), None).unwrap_err().to_string().contains("does NOT hold"));
        let mut around = certificate.clone();
        around["disks"][0]["serialNumber"] = json!("D2");
        assert!(check(&around.to_string(), None).unwrap_err().to_string().contains("the disks are others"));
        around = certificate.clone();
        around["serverId"] = json!(7);
        assert!(check(&around.to_string(), None).unwrap_err().to_string().contains("serverId"));
        around = certificate;
        around["signed"] = Value::Null;
        assert!(check(&around.to_string(), None).unwrap_err().to_string().contains("no signed statement"));
        assert!(check("no", None).is_err());
    }
}
