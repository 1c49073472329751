//! Machines that boot from a volume on the network: what iPXE is told.

use model::agent::IscsiVolume;

/// Name under which the login of an installed system at its iSCSI targets is among a session's secrets. No template can name it.
pub const CHAP_SECRET: &str = "storage.chap";

/// Seconds until a machine asks again that did not reach its volume.
const AGAIN: u32 = 15;

/// Whether a word can stand in a script as it is: nothing in it is a setting, a separator or another command.
fn plain(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || ".:_-[]".contains(c))
}

/// Where iPXE finds the volume, by each of its portals (RFC 4173). What cannot be said there is an error in words.
fn paths(volume: &IscsiVolume) -> Result<Vec<String>, String> {
    if volume.portals.is_empty() {
        return Err(format!("the storage of {} tells no address for its hosts", volume.target));
    }
    let all = volume.portals.iter().map(|(address, port)| {
        let address =
            if address.contains(':') && !address.starts_with('[') { format!("[{address}]") } else { address.clone() };
        format!("iscsi:{address}::{port}:{:x}:{}", volume.lun, volume.target)
    });
    let all: Vec<String> = all.collect();
    match all.iter().find(|p| !plain(p)) {
        Some(wrong) => {
            Err(format!("{wrong:?} cannot be said in a boot script; look at the addresses that the storage tells"))
        }
        None => Ok(all),
    }
}

/// Attaches the volume and boots it. iPXE leaves its address, its name and its login to the system in the iBFT. While the volume cannot be
/// reached the machine asks again, and never boots a disk of its own instead. `again`: where this script is.
pub fn script(volume: &IscsiVolume, again: &str) -> Result<String, String> {
    let paths = paths(volume)?.join(" ");
    let mut text = String::from("#!ipxe\n");
    let mut set = |name: &str, value: &str| {
        if !plain(value) {
            return Err(format!("the {name} of the instance cannot be said in a boot script"));
        }
        text.push_str(&format!("set {name} {value}\n"));
        Ok(())
    };
    set("initiator-iqn", &volume.initiator)?;
    if let Some((user, secret)) = &volume.chap {
        set("username", user)?;
        set("password", secret)?;
    }
    text.push_str(&format!(
        "sanboot {paths} || echo The volume of this server cannot be booted, it is tried again in {AGAIN} s\nsleep {AGAIN}\nchain --replace {again} || reboot\n"
    ));
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test should stop")]
    use super::*;

    fn volume() -> IscsiVolume {
        IscsiVolume {
            initiator: "iqn.2026-01.io.steelyard:instance-7".into(),
            target: "iqn.2026-01.io.steelyard:sy-drive-3-7".into(),
            lun: 10,
            portals: vec![("10.9.0.1".into(), 3260), ("fd00::9".into(), 3261)],
            chap: Some(("instance-7".into(), "abcdef0123456789".into())),
            wwn: None,
        }
    }

    #[test]
    fn all_paths_and_the_login_are_told() {
        let text = script(&volume(), "http://site/boot/52-54-00-00-00-01/script.ipxe").unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[..4],
            [
                "#!ipxe",
                "set initiator-iqn iqn.2026-01.io.steelyard:instance-7",
                "set username instance-7",
                "set password abcdef0123456789"
            ]
        );
        assert!(
            lines[4].starts_with(
                "sanboot iscsi:10.9.0.1::3260:a:iqn.2026-01.io.steelyard:sy-drive-3-7 iscsi:[fd00::9]::3261:a:iqn."
            ),
            "{text}"
        );
        assert!(lines[4].contains(" || echo ") && !text.contains("no-describe") && !text.contains("0x80"), "{text}");
        assert!(!format!("{:?}", volume()).contains("abcdef"), "no secret in debug output");
    }

    #[test]
    fn nothing_of_an_array_becomes_a_command() {
        let again = "http://site/x";
        for wrong in ["iqn.x\nshell", "iqn.x ; shell", "${password}", ""] {
            assert!(
                script(&IscsiVolume { target: wrong.into(), ..volume() }, again).is_err() || wrong.is_empty(),
                "{wrong}"
            );
            assert!(script(&IscsiVolume { initiator: wrong.into(), ..volume() }, again).is_err(), "{wrong}");
            assert!(
                script(&IscsiVolume { chap: Some(("u".into(), wrong.into())), ..volume() }, again).is_err(),
                "{wrong}"
            );
        }
        assert!(script(&IscsiVolume { portals: Vec::new(), ..volume() }, again).unwrap_err().contains("no address"));
    }
}
