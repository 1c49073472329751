//! The IPMI driver against OpenIPMI's `ipmi_sim`, which shares nothing with us. Skipped, with words, where it is not installed
//! (`apt-get install openipmi`).

use std::{
    net::UdpSocket,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use bmc::{Access, BmcError, Boot, Driver, Identify, Inventory, Kind, Power};
use model::{
    bmc::{BootTarget, PowerAction, PowerState},
    secret::Clear,
};

/// Ends the simulator with the test.
pub struct Sim(std::process::Child);

impl Drop for Sim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts one; `serial` is where the server's serial port is, over TCP.
pub fn start(dir: &Path, serial_port: Option<u16>) -> Option<(Sim, u16)> {
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let serial = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let at = dir.display();
    let script = format!(
        "#!/bin/sh\nshift; op=$1; shift\nif [ $op = get ]; then for p in \"$@\"; do echo \"$p:$(cat {at}/$p 2>/dev/null || echo 0)\"; done\nelse while [ $# -gt 1 ]; do echo $2 > {at}/$1; shift 2; done; fi\n"
    );
    std::fs::write(dir.join("chassis.sh"), script).unwrap();
    std::fs::set_permissions(dir.join("chassis.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(dir.join("boot"), "default").unwrap();
    let auths =
        ["callback", "user", "operator", "admin"].map(|l| format!("    allowed_auths_{l} none md2 md5 straight\n"));
    let sol = serial_port.map_or(String::new(), |port| format!("  sol \"tcp:127.0.0.1:{port}\" 115200\n"));
    let lan = format!(
        "name \"sim\"\nset_working_mc 0x20\n  startlan 1\n    addr 127.0.0.1 {port}\n    priv_limit admin\n{}    guid a123456789abcdefa123456789abcdef\n  endlan\n  chassis_control \"{at}/chassis.sh 0x20\"\n{sol}  serial 15 127.0.0.1 {serial} codec VM\n  startcmd \"sleep 1\"\n  startnow false\n  user 1 true \"\" \"test\" user 10 none md2 md5 straight\n  user 2 true \"ipmiusr\" \"test\" admin 10 none md2 md5 straight\n",
        auths.concat()
    );
    std::fs::write(dir.join("lan.conf"), lan).unwrap();
    let emulation = "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\nsel_enable 0x20 1000 0x0a\nmc_enable 0x20\n";
    std::fs::write(dir.join("sim.emu"), emulation).unwrap();
    std::fs::create_dir_all(dir.join("state")).unwrap();
    let child = Command::new("ipmi_sim")
        .args(["-c", "lan.conf", "-f", "sim.emu", "-s", "state", "-n"])
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    Some((Sim(child), port))
}

#[tokio::test]
async fn power_boot_and_led_of_an_independent_bmc() {
    let dir = tempfile::tempdir().unwrap();
    let Some((_sim, port)) = start(dir.path(), None) else {
        eprintln!("skipped: ipmi_sim is not installed (apt-get install openipmi)");
        return;
    };
    tokio::time::sleep(Duration::from_millis(500)).await;
    let access = |password: &str| Access {
        address: format!("127.0.0.1:{port}"),
        username: "ipmiusr".into(),
        password: Clear(password.into()),
        timeout: Duration::from_secs(4),
        tls_fingerprint: None,
    };
    let driver: Driver = bmc::open(Kind::Ipmi, access("test")).unwrap();
    assert_eq!(driver.power().await.unwrap(), PowerState::Off);
    driver.set_power(PowerAction::On).await.unwrap();
    driver.wait_for_power(PowerState::On, Duration::from_secs(5)).await.unwrap();
    driver.boot_once(BootTarget::Pxe).await.unwrap();
    assert_eq!(std::fs::read_to_string(dir.path().join("boot")).unwrap().trim(), "pxe");
    driver.boot_once(BootTarget::None).await.unwrap();
    driver.identify(true).await.unwrap();
    driver.identify(false).await.unwrap();
    driver.set_power(PowerAction::ForceOff).await.unwrap();
    driver.wait_for_power(PowerState::Off, Duration::from_secs(5)).await.unwrap();
    let found = driver.inventory().await.unwrap();
    assert_eq!(found.bmc_version.as_deref(), Some("9.08"), "{found:?}");
    driver.close().await;
    driver.power().await.unwrap();

    let wrong = bmc::open(Kind::Ipmi, access("wrong")).unwrap();
    assert!(matches!(wrong.power().await, Err(BmcError::Unauthorized(_))));
}
