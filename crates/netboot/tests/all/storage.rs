//! What a system is told of its storage by the default user-data.

use model::{
    boot::{BootSession, InstallSpec},
    storage::{BlockProtocol, InstanceMount, InstanceStorage, InstanceTarget, Portal, initiator_iqn, initiator_nqn},
};
use netboot::render::SeedContext;
use serde_json::json;

fn user_data(storage: InstanceStorage) -> String {
    user_data_with(storage, std::collections::BTreeMap::new())
}

fn user_data_with(storage: InstanceStorage, secrets: std::collections::BTreeMap<String, String>) -> String {
    let mut install: InstallSpec = serde_json::from_value(json!({
        "instance_id": 7, "hostname": "web-1", "username": "admin", "password": "x", "ssh_keys": ["ssh-ed25519 AAAA me"],
        "network_config": {"version": 2},
        "os": {
            "template_id": 1, "name": "Debian 12", "os_name": "Debian", "os_version": "12",
            "image": {"sha256": "a".repeat(64), "size": 10, "format": "raw"},
        },
    }))
    .unwrap();
    install.storage = storage;
    let session: BootSession = serde_json::from_value(json!({
        "job_id": 5, "server_id": 1, "macs": [], "task": "install", "token": "t",
    }))
    .unwrap();
    let context = SeedContext {
        session: &session,
        install: &install,
        password_hash: "$6$x",
        secrets: &secrets,
        http_base: "http://site:8090",
    };
    context.user_data().unwrap()
}

fn portal(protocol: &str, address: &str, port: u16) -> Portal {
    Portal { name: "p".into(), node: "n".into(), protocol: protocol.into(), address: address.into(), port }
}

fn target(protocol: BlockProtocol, portals: Vec<Portal>) -> InstanceTarget {
    InstanceTarget { storage_id: 1, protocol, volumes: vec!["drive-1".into()], portals, boot_volume: None }
}

#[test]
fn a_system_without_storage_is_told_nothing_of_it() {
    let text = user_data(InstanceStorage::default());
    for word in ["iscsi", "mounts", "runcmd", "write_files"] {
        assert!(!text.contains(word), "{text}");
    }
    assert!(text.contains("ssh_pwauth: true\nphone_home:\n  url: "), "{text}");
}

#[test]
fn a_system_logs_in_as_its_own_initiator_and_mounts_its_shares() {
    let text = user_data(InstanceStorage {
        initiator_iqn: initiator_iqn(7),
        initiator_nqn: initiator_nqn(7),
        chap: None,
        keep_system: false,
        targets: vec![
            target(BlockProtocol::Iscsi, vec![portal("iscsi", "10.9.0.1", 3260), portal("iscsi", "10.9.1.1", 3260)]),
            target(BlockProtocol::NvmeTcp, vec![portal("nvme_tcp", "10.9.0.3", 4420)]),
        ],
        mounts: vec![
            InstanceMount {
                storage_id: 1,
                key: "share-1".into(),
                path: "/mnt/home".into(),
                source: Some("10.9.0.2:/x/share-1".into()),
                options: "vers=4.1".into(),
            },
            InstanceMount {
                storage_id: 1,
                key: "share-2".into(),
                path: "/mnt/nowhere".into(),
                source: None,
                options: String::new(),
            },
        ],
    });
    for line in [
        r#"    content: "InitiatorName=iqn.2026-01.io.steelyard:instance-7\n""#,
        r#"    content: "nqn.2026-01.io.steelyard:instance-7\n""#,
        r#"  - ["iscsiadm","-m","discovery","-t","sendtargets","-p","10.9.0.1:3260"]"#,
        r#"  - ["iscsiadm","-m","discovery","-t","sendtargets","-p","10.9.1.1:3260"]"#,
        r#"  - ["nvme","connect-all","--transport=tcp","--traddr=10.9.0.3","--trsvcid=4420","--hostnqn=nqn.2026-01.io.steelyard:instance-7"]"#,
        "  - [iscsiadm, -m, node, -L, all]",
        r#"  - ["10.9.0.2:/x/share-1","/mnt/home","nfs","vers=4.1,_netdev,nofail","0","0"]"#,
        "mounts:",
        "phone_home:",
    ] {
        assert!(text.lines().any(|l| l.replace("\", \"", "\",\"") == line), "{line}\n{text}");
    }
    assert!(!text.contains("nowhere"), "{text}");
}

#[test]
fn a_login_reaches_the_initiator_and_nobody_else() {
    let chap = serde_json::from_value(json!({"username": "instance-7", "secret": "sealed text"})).unwrap();
    let storage = InstanceStorage {
        initiator_iqn: initiator_iqn(7),
        targets: vec![target(BlockProtocol::Iscsi, vec![portal("iscsi", "fd00::9", 3260)])],
        chap: Some(chap),
        ..InstanceStorage::default()
    };
    let secrets = [(netboot::san::CHAP_SECRET.to_owned(), "abcdef0123456789".to_owned())];
    let text = user_data_with(storage.clone(), secrets.into());
    let wanted = concat!(
        "  - path: /etc/iscsi/iscsid.conf\n    append: true\n    permissions: \"0600\"\n    content: |\n      # Written by Steelyard.\n",
        "      node.startup = automatic\n      node.session.auth.authmethod = CHAP\n      node.session.auth.username = instance-7\n",
        "      node.session.auth.password = abcdef0123456789\n  - path: /etc/nvme/hostnqn\n",
    );
    assert!(text.contains(wanted), "{text}");
    assert!(!text.contains("multipath") && !text.contains("sealed text"), "{text}");
    assert!(text.contains("[fd00::9]:3260"), "{text}");
    // Several paths are one disk to the system.
    let portals = vec![portal("iscsi", "10.9.0.1", 3260), portal("iscsi", "10.9.1.1", 3260)];
    let several = InstanceStorage { targets: vec![target(BlockProtocol::Iscsi, portals)], chap: None, ..storage };
    let text = user_data(several);
    assert!(text.contains("find_multipaths yes") && !text.contains("node.session.auth"), "{text}");
}
