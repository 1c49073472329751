//! Consoles: serial over LAN against OpenIPMI's `ipmi_sim`, VNC against QEMU (both share nothing with us), SSH and VNC against the simulated
//! datacenter. What is not installed is skipped, with words.

use std::{
    net::Ipv4Addr,
    process::{Command, Stdio},
    time::Duration,
};

use bmc::{
    Access, BmcError, Driver, Kind, Power,
    console::{
        Input, Screen, Serial, SerialWanted,
        rfb::{self, Stream},
    },
};
use model::{
    bmc::{PowerAction, PowerState},
    secret::Clear,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};
use yard::{Yard, YardConfig};

use crate::ipmi_sim;

const LIMIT: Duration = Duration::from_secs(20);

async fn type_in(serial: &Serial, text: &str) {
    serial.input.send(Input::Bytes(text.as_bytes().to_vec())).await.unwrap();
}

/// Reads until the text has come.
async fn until(serial: &mut Serial, wanted: &str) -> String {
    let mut all = String::new();
    let end = Instant::now() + LIMIT;
    while !all.contains(wanted) {
        let read = tokio::time::timeout_at(end, serial.output.recv()).await;
        let read = read.unwrap_or_else(|_| panic!("waited in vain for {wanted:?} in {all:?}"));
        all.push_str(&String::from_utf8_lossy(&read.expect("it ended").unwrap()));
    }
    all
}

#[tokio::test]
async fn serial_over_lan_of_an_independent_bmc() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let Some((_sim, port)) = ipmi_sim::start(dir.path(), Some(listener.local_addr().unwrap().port())) else {
        eprintln!("skipped: ipmi_sim is not installed (apt-get install openipmi)");
        return;
    };
    tokio::time::sleep(Duration::from_millis(500)).await;
    let access = Access {
        address: format!("127.0.0.1:{port}"),
        username: "ipmiusr".into(),
        password: Clear("test".into()),
        timeout: Duration::from_secs(4),
        tls_fingerprint: None,
    };
    let driver: Driver = bmc::open(Kind::Ipmi, access.clone()).unwrap();
    let mut serial = driver.serial(&SerialWanted::default()).await.unwrap();
    assert!(serial.breaks && serial.via.contains("serial over LAN"));
    // The server's end of the serial line.
    let (mut line, _) = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();

    line.write_all(b"web-1 login: ").await.unwrap();
    until(&mut serial, "web-1 login: ").await;
    type_in(&serial, "root\r").await;
    let mut typed = [0; 5];
    timeout(LIMIT, line.read_exact(&mut typed)).await.unwrap().unwrap();
    assert_eq!(&typed, b"root\r");

    // Much, in both directions: nothing is lost or doubled.
    let sent: Vec<u8> = (0..20_000u32).flat_map(|n| format!("{n:05}\n").into_bytes()).take(60_000).collect();
    let wanted = sent.clone();
    let (mut read_half, mut write_half) = line.into_split();
    let writer = tokio::spawn(async move {
        write_half.write_all(&sent).await.unwrap();
        write_half
    });
    let mut came = Vec::new();
    while came.len() < wanted.len() {
        let more = timeout(LIMIT, serial.output.recv()).await.unwrap_or_else(|_| panic!("{} bytes came", came.len()));
        came.extend(more.unwrap().unwrap());
    }
    assert!(came == wanted, "what the server wrote has come");
    let write_half = writer.await.unwrap();
    let long = (0..600).map(|n| format!("{n:04} ")).collect::<Vec<_>>().concat();
    type_in(&serial, &long).await;
    let mut typed = vec![0; long.len()];
    timeout(LIMIT, read_half.read_exact(&mut typed)).await.unwrap().unwrap();
    assert_eq!(String::from_utf8(typed).unwrap(), long);
    serial.input.send(Input::Break).await.unwrap();

    // One session at a time: the second is told, and may take over.
    let other = bmc::open(Kind::Ipmi, access).unwrap();
    let refused = other.serial(&SerialWanted::default()).await.map(|_| ()).unwrap_err();
    assert!(refused.to_string().contains("take it over"), "{refused}");
    let mut taken = other.serial(&SerialWanted { take_over: true, ..SerialWanted::default() }).await.unwrap();
    drop(serial);
    let mut line = read_half.reunite(write_half).unwrap();
    type_in(&taken, "x").await;
    let mut typed = [0; 1];
    timeout(LIMIT, line.read_exact(&mut typed)).await.unwrap().unwrap();
    line.write_all(b"still here").await.unwrap();
    until(&mut taken, "still here").await;

    // Whoever closes leaves it free.
    drop(taken);
    let end = Instant::now() + LIMIT;
    let reopened = loop {
        match driver.serial(&SerialWanted::default()).await {
            Ok(serial) => break serial,
            Err(e) => assert!(Instant::now() < end, "{e}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    drop(reopened);
}

async fn yard(block: u8, model: &str) -> Yard {
    crypto::install_provider();
    let config = YardConfig {
        servers: 1,
        leaves: 1,
        spines: 1,
        models: vec![model.into()],
        bmc_base: Ipv4Addr::new(127, 40 + block, 1, 1),
        switch_base: Ipv4Addr::new(127, 40 + block, 2, 1),
        relay_base: Ipv4Addr::new(127, 40 + block, 3, 1),
        bmc_port: 0,
        nvue_port: 0,
        admin_listen: "127.0.0.1:0".parse().unwrap(),
        post_seconds: 0.3,
        os_boot_seconds: 0.1,
        dhcp_timeout_seconds: 0.05,
        boot_retry_seconds: 0.05,
        ..YardConfig::default()
    };
    yard::run(config).await.unwrap()
}

fn open(yard: &Yard, password: &str) -> Driver {
    let server = &yard.world().servers[0];
    let access = Access {
        address: format!("{}:{}", server.spec.bmc, server.bmc_port.get().unwrap()),
        username: "root".into(),
        password: Clear(password.into()),
        timeout: Duration::from_secs(5),
        tls_fingerprint: None,
    };
    bmc::open(Kind::Redfish, access).unwrap()
}

#[tokio::test]
async fn ssh_consoles_of_every_maker() {
    for (n, model) in ["dell-r650", "hpe-dl365", "supermicro-421ge", "nvidia-dgx-h100"].into_iter().enumerate() {
        let yard = yard(60 + n as u8, model).await;
        let driver = open(&yard, "calvin-yard");
        let mut serial = driver.serial(&SerialWanted::default()).await.unwrap();
        let key = serial.host_key.clone().unwrap();
        driver.set_power(PowerAction::On).await.unwrap();
        // What a server writes while it starts.
        until(&mut serial, "firmware self test").await;
        until(&mut serial, "No boot device available").await;
        serial.input.send(Input::Size { columns: 132, rows: 40 }).await.unwrap();

        // The BMC has one session.
        let mut second =
            driver.serial(&SerialWanted { host_key: Some(key.clone()), ..Default::default() }).await.unwrap();
        until(&mut second, "in use").await;
        assert!(matches!(timeout(LIMIT, second.output.recv()).await.unwrap(), Some(Err(_))));
        drop(serial);
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut again = driver.serial(&SerialWanted { host_key: Some(key), ..Default::default() }).await.unwrap();
        until(&mut again, "firmware self test").await;
        drop(again);

        let pinned = SerialWanted { host_key: Some("00".repeat(32)), ..Default::default() };
        let error = driver.serial(&pinned).await.map(|_| ()).unwrap_err();
        assert!(matches!(error, BmcError::CertificateChanged { .. }), "{error}");
        yard.shutdown().await;
    }
}

/// Reads the server's greeting and asks for the whole picture. Its size, and one update.
async fn picture(stream: &mut Box<dyn Stream>) -> (usize, usize, Vec<u8>) {
    stream.write_all(&[1]).await.unwrap();
    let mut init = [0; 24];
    stream.read_exact(&mut init).await.unwrap();
    let number = |at: usize| usize::from(u16::from_be_bytes([init[at], init[at + 1]]));
    let (width, height) = (number(0), number(2));
    let mut name = vec![0; u32::from_be_bytes([init[20], init[21], init[22], init[23]]) as usize];
    stream.read_exact(&mut name).await.unwrap();
    let mut ask = vec![2, 0, 0, 1, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0];
    ask.extend((width as u16).to_be_bytes());
    ask.extend((height as u16).to_be_bytes());
    stream.write_all(&ask).await.unwrap();
    let mut head = [0; 4];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(head[0], 0, "an update");
    let mut pixels = Vec::new();
    for _ in 0..u16::from_be_bytes([head[2], head[3]]) {
        let mut part = [0; 12];
        stream.read_exact(&mut part).await.unwrap();
        let size = |at: usize| usize::from(u16::from_be_bytes([part[at], part[at + 1]]));
        assert_eq!(part[8..], [0; 4], "raw");
        let mut raw = vec![0; size(4) * size(6) * usize::from(init[4] / 8)];
        stream.read_exact(&mut raw).await.unwrap();
        pixels.extend(raw);
    }
    (width, height, pixels)
}

#[tokio::test]
async fn the_screen_of_an_idrac_gets_a_password_of_its_own() {
    let yard = yard(70, "dell-r650").await;
    let driver = open(&yard, "calvin-yard");
    let screen = driver.screen(None).await.unwrap();
    let password = screen.password.clone().unwrap();
    assert_eq!(password.0.len(), 8);
    let mut stream = rfb::connect(&screen, LIMIT).await.unwrap();
    let (width, height, off) = timeout(LIMIT, picture(&mut stream)).await.unwrap();
    assert_eq!((width, height, off.len()), (640, 300, 640 * 300 * 4));
    // A second viewer has the same password, and does not throw the first out.
    let second = driver.screen(Some(&password)).await.unwrap();
    assert_eq!(second.password, Some(password));
    let mut other = rfb::connect(&second, LIMIT).await.unwrap();
    timeout(LIMIT, picture(&mut other)).await.unwrap();
    // Who does not know it waits until they are done.
    let refused = driver.screen(None).await.map(|_| ()).unwrap_err();
    assert!(refused.to_string().contains("somebody else looks"), "{refused}");
    driver.set_power(PowerAction::On).await.unwrap();
    driver.wait_for_power(PowerState::On, LIMIT).await.unwrap();
    drop((stream, other));

    let wrong = Screen { password: Some(Clear("guessed!".into())), ..screen };
    let error = rfb::connect(&wrong, LIMIT).await.map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("Authentication failed"), "{error}");
    yard.shutdown().await;
}

#[tokio::test]
async fn others_have_a_screen_or_say_that_they_have_none() {
    let openbmc = yard(71, "nvidia-dgx-h100").await;
    let screen = open(&openbmc, "calvin-yard").screen(None).await.unwrap();
    let mut stream = rfb::connect(&screen, LIMIT).await.unwrap();
    timeout(LIMIT, picture(&mut stream)).await.unwrap();
    openbmc.shutdown().await;
    let ilo = yard(72, "hpe-dl365").await;
    let error = open(&ilo, "calvin-yard").screen(None).await.map(|_| ()).unwrap_err();
    assert!(matches!(&error, BmcError::Unsupported { .. }) && error.to_string().contains("own web page"), "{error}");
    ilo.shutdown().await;
}

/// Ends the machine with the test.
struct Machine(std::process::Child);

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn vnc_of_qemu_with_a_password() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let monitor = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    if port < 5900 {
        return;
    }
    let started = Command::new("qemu-system-x86_64")
        .args(["-S", "-machine", "pc", "-accel", "tcg", "-m", "32", "-nodefaults", "-vga", "std", "-display", "none"])
        .args(["-vnc", &format!("127.0.0.1:{},password=on", port - 5900)])
        .args(["-monitor", &format!("tcp:127.0.0.1:{monitor},server=on,wait=off")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(child) = started else {
        eprintln!("skipped: qemu-system-x86_64 is not installed");
        return;
    };
    let _machine = Machine(child);
    let end = Instant::now() + LIMIT;
    let mut control = loop {
        if let Ok(stream) = TcpStream::connect(("127.0.0.1", monitor)).await {
            break stream;
        }
        assert!(Instant::now() < end, "QEMU does not start");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    control.write_all(b"change vnc password secret12\n").await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let screen = |password: &str| Screen {
        via: "VNC".into(),
        address: format!("127.0.0.1:{port}"),
        password: Some(Clear(password.into())),
        tls: None,
    };
    let mut stream = rfb::connect(&screen("secret12"), LIMIT).await.unwrap();
    let (width, height, pixels) = timeout(LIMIT, picture(&mut stream)).await.unwrap();
    assert!(width >= 320 && height >= 200 && !pixels.is_empty(), "{width}x{height}");
    let error = rfb::connect(&screen("another1"), LIMIT).await.map(|_| ()).unwrap_err();
    assert!(matches!(error, BmcError::Refused { .. }), "{error}");
}
