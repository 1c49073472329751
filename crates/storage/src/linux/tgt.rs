//! What `tgtadm` says, and the file that tells tgt of a target after a restart.

use std::collections::BTreeSet;

use model::secret::Clear;
use sha2::{Digest, Sha256};

/// Where our targets are named.
const AUTHORITY: &str = "iqn.2026-01.io.steelyard";

/// IQN of a volume's target.
pub(super) fn iqn(name: &str) -> String {
    format!("{AUTHORITY}:{name}")
}

/// The NAA identifier that tgt makes for the first logical unit of a target: it follows from the target's number alone.
pub(super) fn naa(tid: u32) -> String {
    format!("6{:0>31}", format!("e000000{tid:04x}0001"))
}

/// A number for a new target. Identifiers follow from it, so it comes from the node's and the volume's names: two nodes that count from 1
/// would show volumes that look like paths to the same one.
pub(super) fn number(node: &str, name: &str, taken: &BTreeSet<u32>) -> u32 {
    let digest = Sha256::digest(format!("{node} {name}").as_bytes());
    let wanted = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]) & 0x0fff_ffff | 0x0100_0000;
    (wanted..=0x7fff_ffff).find(|n| !taken.contains(n)).unwrap_or(wanted)
}

/// A session of an initiator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Session {
    /// Number.
    pub sid: u64,
    /// Who.
    pub initiator: String,
    /// Connections.
    pub connections: Vec<u64>,
}

/// A target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Target {
    /// Number.
    pub tid: u32,
    /// Name.
    pub iqn: String,
    /// Whether it answers.
    pub ready: bool,
    /// Sessions.
    pub sessions: Vec<Session>,
    /// Backing store of logical unit 1, and its size as tgt knows it.
    pub store: Option<String>,
    /// Accounts.
    pub accounts: BTreeSet<String>,
    /// Initiators, or addresses, that may come in.
    pub allowed: BTreeSet<String>,
}

impl Target {
    /// Who is logged in, for people; `None`: nobody.
    pub(super) fn users(&self) -> Option<String> {
        let names: BTreeSet<&str> = self.sessions.iter().map(|s| s.initiator.as_str()).collect();
        (!names.is_empty()).then(|| names.into_iter().collect::<Vec<_>>().join(", "))
    }
}

/// Reads `tgtadm --op show --mode target`.
pub(super) fn parse(text: &str) -> Vec<Target> {
    let mut targets: Vec<Target> = Vec::new();
    let (mut section, mut lun) = (String::new(), 0u32);
    for line in text.lines() {
        let word = line.trim();
        if let Some((tid, name)) = line.strip_prefix("Target ").and_then(|rest| rest.split_once(": ")) {
            targets.push(Target {
                tid: tid.trim().parse().unwrap_or(0),
                iqn: name.trim().to_owned(),
                ..Target::default()
            });
            section.clear();
            continue;
        }
        let Some(target) = targets.last_mut() else { continue };
        let indent = line.len() - line.trim_start().len();
        if indent == 4 && word.ends_with(':') {
            word.trim_end_matches(':').clone_into(&mut section);
            continue;
        }
        match (section.as_str(), word.split_once(": ")) {
            ("System information", Some(("State", state))) => target.ready = state == "ready",
            ("I_T nexus information", Some(("I_T nexus", sid))) => {
                target.sessions.push(Session { sid: sid.trim().parse().unwrap_or(0), ..Session::default() });
            }
            ("I_T nexus information", Some(("Initiator", who))) => {
                if let Some(session) = target.sessions.last_mut() {
                    who.split_whitespace().next().unwrap_or_default().clone_into(&mut session.initiator);
                }
            }
            ("I_T nexus information", Some(("Connection", cid))) => {
                if let (Some(session), Ok(cid)) = (target.sessions.last_mut(), cid.trim().parse()) {
                    session.connections.push(cid);
                }
            }
            ("LUN information", Some(("LUN", number))) => lun = number.trim().parse().unwrap_or(0),
            ("LUN information", Some(("Backing store path", path))) if lun == 1 && path != "None" => {
                target.store = Some(path.to_owned());
            }
            ("Account information", _) if !word.is_empty() => {
                target.accounts.insert(word.split_whitespace().next().unwrap_or_default().to_owned());
            }
            ("ACL information", _) if !word.is_empty() => {
                target.allowed.insert(word.to_owned());
            }
            _ => {}
        }
    }
    targets
}

/// The target in the words of targets.conf(5).
pub(super) fn config(
    target: &str,
    tid: u32,
    store: &str,
    allowed: &BTreeSet<String>,
    accounts: &[(String, Clear)],
) -> String {
    let mut text = format!(
        "# Written by Steelyard; changes are lost.\n<target {target}>\n    controller_tid {tid}\n    backing-store {store}\n"
    );
    for initiator in allowed {
        text.push_str(&format!("    initiator-name {initiator}\n"));
    }
    if allowed.is_empty() {
        // A target without any list is open to all: this one is open to nobody.
        text.push_str(&format!("    initiator-name {NOBODY}\n"));
    }
    for (user, secret) in accounts {
        text.push_str(&format!("    incominguser {user} {}\n", secret.0));
    }
    text.push_str("</target>\n");
    text
}

/// An initiator that does not exist.
pub(super) const NOBODY: &str = "iqn.2026-01.io.steelyard:nobody";

#[cfg(test)]
mod tests {
    use super::*;

    const SHOWN: &str = "\
Target 3: iqn.2026-01.io.steelyard:sy-drive-12
    System information:
        Driver: iscsi
        State: ready
    I_T nexus information:
        I_T nexus: 5
            Initiator: iqn.2026-01.io.steelyard:instance-4 alias: host4
            Connection: 0
                IP Address: 10.0.0.4
    LUN information:
        LUN: 0
            Type: controller
            Backing store path: None
        LUN: 1
            Type: disk
            Size: 67 MB, Block size: 512
            Backing store path: /srv/steelyard/volumes/sy-drive-12.img
            Backing store flags: 
    Account information:
        instance-4
    ACL information:
        iqn.2026-01.io.steelyard:instance-4
Target 9: iqn.2001-04.org.example:other
    System information:
        Driver: iscsi
        State: offline
    I_T nexus information:
    LUN information:
        LUN: 0
            Backing store path: None
    Account information:
    ACL information:
        ALL
";

    #[test]
    fn what_tgt_says_is_read() {
        let targets = parse(SHOWN);
        assert_eq!(targets.len(), 2);
        let t = &targets[0];
        assert_eq!((t.tid, t.ready, t.store.as_deref()), (3, true, Some("/srv/steelyard/volumes/sy-drive-12.img")));
        assert_eq!(
            t.sessions[0],
            Session { sid: 5, initiator: "iqn.2026-01.io.steelyard:instance-4".into(), connections: vec![0] }
        );
        assert_eq!((t.accounts.len(), t.allowed.len()), (1, 1));
        assert_eq!(
            (targets[1].ready, targets[1].store.is_none(), targets[1].allowed.contains("ALL")),
            (false, true, true)
        );
        assert_eq!(parse("garbage\n  more: garbage"), vec![]);
    }

    #[test]
    fn identifiers_follow_from_numbers() {
        // As read from tgt 1.0.85.
        assert_eq!(naa(1), "60000000000000000e00000000010001");
        assert_eq!(naa(123_456_789), "6000000000000".to_owned() + "0e00000075bcd150001");
        let first = number("n", "v", &BTreeSet::new());
        assert_ne!(first, number("m", "v", &BTreeSet::new()));
        assert_ne!(first, number("n", "v", &BTreeSet::from([first])));
    }

    #[test]
    fn a_target_of_nobody_stays_closed_after_a_restart() {
        assert!(config("iqn.x:y", 1, "/v", &BTreeSet::new(), &[]).contains(NOBODY));
    }
}
