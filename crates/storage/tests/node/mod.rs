//! A storage node on loopback, made of real programs in a temporary folder, each on a port of its own and stopped by its process id.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use model::{secret::Clear, storage::StorageDriver};
use serde_json::json;
use storage::{Access, Array};

/// What a program said and how it ended.
pub struct Out {
    pub status: ExitStatus,
    pub text: String,
}

/// Runs a program to its end, at most half a minute.
pub fn output(program: &str, args: &[&str]) -> Out {
    let done = Command::new("timeout").arg("30").arg(program).args(args).stdin(Stdio::null()).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    Out { status: done.status, text }
}

/// Unwraps.
pub fn ok<T, E: std::fmt::Debug>(result: Result<T, E>) -> T {
    result.unwrap()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until something listens.
pub async fn port_answers(port: u16) -> bool {
    for _ in 0..300 {
        if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    false
}

fn find(program: &str) -> Option<PathBuf> {
    if let Some(given) = std::env::var_os(program.to_uppercase()).map(PathBuf::from).filter(|p| p.exists()) {
        return Some(given);
    }
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/sbin:/sbin:/usr/local/bin").split(':').map(|d| Path::new(d).join(program)).find(|p| p.exists())
}

fn not_tested(what: &str, why: &str) {
    let line = format!("NOT TESTED: {what} of a Linux storage node ({why})");
    eprintln!("{line}");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/not-tested");
    if let Ok(mut file) = std::fs::OpenOptions::new().create(true).append(true).open(file) {
        let _ = writeln!(file, "{line}");
    }
}

/// A storage node.
pub struct Node {
    _folder: tempfile::TempDir,
    /// Its folder.
    pub home: PathBuf,
    /// Where volumes lie.
    pub pool: PathBuf,
    children: Vec<Child>,
    ssh_port: u16,
    control: u16,
    weed_master: u16,
    weed_filer: u16,
    weed: String,
    weed_names: (String, String),
    key: String,
    pub iscsi_port: u16,
    pub nfs_port: u16,
    pub s3_port: u16,
}

impl Node {
    /// Starts what these tests need; `None` when that is not possible here.
    pub async fn start(programs: &[&str], what: &str) -> Option<Self> {
        if output("id", &["-u"]).text.trim() != "0" {
            not_tested(what, "needs root");
            return None;
        }
        for program in programs.iter().chain(&["sshd", "ssh-keygen", "mkfs.xfs"]) {
            if find(program).is_none() {
                not_tested(what, &format!("no {program}"));
                return None;
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().canonicalize().unwrap();
        for sub in ["pool", "tgt", "exports", "recovery", "shares", "weed"] {
            std::fs::create_dir(home.join(sub)).unwrap();
        }
        std::fs::write(home.join("fstab"), "").unwrap();
        // A pool on XFS: it can copy a file in one moment.
        let image = home.join("pool.img");
        std::fs::File::create(&image).unwrap().set_len(2 << 30).unwrap();
        let image = image.to_str().unwrap().to_owned();
        let pool = home.join("pool");
        if !output("mkfs.xfs", &["-q", &image]).status.success()
            || !output("mount", &["-o", "loop", &image, pool.to_str().unwrap()]).status.success()
        {
            not_tested(what, "no loop mount of XFS");
            return None;
        }
        let mut node = Self {
            _folder: folder,
            pool,
            children: Vec::new(),
            ssh_port: free_port(),
            control: 1000 + free_port() % 20000,
            weed_master: free_port(),
            weed_filer: free_port(),
            weed: "weed".into(),
            weed_names: Default::default(),
            key: String::new(),
            iscsi_port: free_port(),
            nfs_port: free_port(),
            s3_port: free_port(),
            home,
        };
        node.sshd().await;
        let wants = |program: &str| programs.contains(&program);
        if wants("tgtd") {
            node.spawn(Command::new("tgtd").args([
                "-f",
                "-C",
                &node.control.to_string(),
                "--iscsi",
                &format!("portal=127.0.0.1:{}", node.iscsi_port),
            ]));
            assert!(port_answers(node.iscsi_port).await, "tgtd");
        }
        if wants("ganesha.nfsd") {
            node.ganesha().await;
        }
        if wants("weed") {
            node.weed().await;
        }
        Some(node)
    }

    fn spawn(&mut self, command: &mut Command) {
        let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
        let child = command.env("PATH", path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.children.push(child.spawn().unwrap());
    }

    async fn sshd(&mut self) {
        let _ = std::fs::create_dir_all("/run/sshd");
        let path = |name: &str| self.home.join(name).to_str().unwrap().to_owned();
        for name in ["host_key", "user_key"] {
            let made = output("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &path(name)]);
            assert!(made.status.success(), "{}", made.text);
        }
        std::fs::copy(path("user_key.pub"), path("authorized")).unwrap();
        self.key = std::fs::read_to_string(path("user_key")).unwrap();
        let config = format!(
            "Port {}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin yes\nPasswordAuthentication yes\n",
            self.ssh_port,
            path("host_key"),
            path("authorized")
        );
        std::fs::write(path("sshd_config"), config).unwrap();
        let sshd = find("sshd").unwrap();
        let file = path("sshd_config");
        self.spawn(Command::new(sshd).args(["-D", "-f", &file]));
        assert!(port_answers(self.ssh_port).await, "sshd");
    }

    async fn ganesha(&mut self) {
        let home = self.home.display().to_string();
        let config = format!(
            "NFS_CORE_PARAM {{ NFS_Port = {}; Protocols = 4; Enable_NLM = false; Enable_RQUOTA = false; Bind_addr = 127.0.0.1; }}\n\
             NFSv4 {{ Graceless = true; RecoveryRoot = {home}/recovery; Minor_Versions = 0,1,2; }}\n%dir {home}/exports\n",
            self.nfs_port
        );
        std::fs::write(self.home.join("ganesha.conf"), config).unwrap();
        let at = |name: &str| format!("{home}/{name}");
        self.spawn(Command::new("ganesha.nfsd").args([
            "-F",
            "-f",
            &at("ganesha.conf"),
            "-p",
            &at("ganesha.pid"),
            "-L",
            &at("ganesha.log"),
        ]));
        assert!(port_answers(self.nfs_port).await, "ganesha");
    }

    async fn weed(&mut self) {
        find("weed").unwrap().to_str().unwrap().clone_into(&mut self.weed);
        let (master, filer, volume) = (self.weed_master, self.weed_filer, free_port());
        // Each of its ports has a gRPC port beside it, which it takes from an option here.
        let args: Vec<String> = vec![
            "server".into(),
            format!("-dir={}", self.home.join("weed").display()),
            "-ip=127.0.0.1".into(),
            "-ip.bind=127.0.0.1".into(),
            format!("-master.port={master}"),
            format!("-master.port.grpc={}", free_port()),
            format!("-volume.port={volume}"),
            format!("-volume.port.grpc={}", free_port()),
            "-volume.max=20".into(),
            "-master.volumeSizeLimitMB=32".into(),
            "-filer".into(),
            format!("-filer.port={filer}"),
            format!("-filer.port.grpc={}", free_port()),
            "-s3".into(),
            format!("-s3.port={}", self.s3_port),
            format!("-s3.port.grpc={}", free_port()),
        ];
        let grpc =
            |name: &str| args.iter().find_map(|a| a.strip_prefix(&format!("-{name}.port.grpc="))).unwrap().to_owned();
        let (master_grpc, filer_grpc) = (grpc("master"), grpc("filer"));
        let weed = self.weed.clone();
        self.spawn(Command::new(weed).args(&args));
        assert!(port_answers(self.s3_port).await, "weed");
        self.weed_names = (format!("127.0.0.1:{master}.{master_grpc}"), format!("127.0.0.1:{filer}.{filer_grpc}"));
    }

    /// How to reach it.
    pub fn access(&self) -> Access {
        let home = self.home.display().to_string();
        let options = json!({
            "volumeName": self.pool.to_str().unwrap(),
            "tgtControlPort": self.control,
            "tgtConfig": format!("{home}/tgt"),
            "iscsiPort": self.iscsi_port,
            "ganeshaExports": format!("{home}/exports"),
            "ganeshaPidFile": format!("{home}/ganesha.pid"),
            "sharesDirectory": format!("{home}/shares"),
            "fstab": format!("{home}/fstab"),
            "nfsPort": self.nfs_port,
            "weedProgram": self.weed,
            "weedMaster": self.weed_names.0,
            "weedFiler": self.weed_names.1,
            "s3Port": self.s3_port,
        });
        Access {
            name: "node".into(),
            address: "127.0.0.1".into(),
            port: Some(self.ssh_port),
            username: "root".into(),
            secret: Clear("not the password".into()),
            private_key: Some(Clear(self.key.clone())),
            timeout: Duration::from_secs(20),
            tls_fingerprint: None,
            protocol: None,
            options: options.as_object().unwrap().clone(),
        }
    }

    /// Its driver.
    pub fn driver(&self) -> Box<dyn Array> {
        storage::open(StorageDriver::Linux, self.access()).unwrap()
    }

    /// Asks tgt.
    pub fn tgtadm(&self, args: &[&str]) -> String {
        let control = self.control.to_string();
        output("tgtadm", &[&["-C", &control, "--lld", "iscsi"], args].concat()).text
    }

    /// A host that stays logged in.
    pub fn session(options: &str, host: &str) -> Session {
        let image = format!(
            "driver=raw,file.driver=iscsi,file.transport=tcp,file.initiator-name=iqn.2026-01.io.steelyard:{host},{options}"
        );
        let mut child = Command::new("qemu-io")
            .args(["--image-opts", &image])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Session { child, lines }
    }

    /// Stops everything.
    pub async fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        for child in &self.children {
            let _ = Command::new("kill").arg(child.id().to_string()).status();
        }
        let end = Instant::now() + Duration::from_secs(2);
        for child in &mut self.children {
            while Instant::now() < end && child.try_wait().is_ok_and(|s| s.is_none()) {
                std::thread::sleep(Duration::from_millis(50));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        self.children.clear();
        let shares = std::fs::read_dir(self.home.join("shares")).into_iter().flatten().flatten();
        for mount in shares.map(|e| e.path()).chain([self.pool.clone()]) {
            if !Command::new("umount").arg(&mount).stderr(Stdio::null()).status().is_ok_and(|s| s.success()) {
                let _ = Command::new("umount").arg("-l").arg(&mount).stderr(Stdio::null()).status();
            }
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.end();
    }
}

/// A host that stays logged in.
pub struct Session {
    child: Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Session {
    /// Gives a command and waits for the answer.
    pub fn say(&mut self, command: &str) -> String {
        let _ = writeln!(self.child.stdin.as_mut().unwrap(), "{command}");
        let mut text = String::new();
        let end = Instant::now() + Duration::from_secs(30);
        while Instant::now() < end {
            match self.lines.recv_timeout(Duration::from_millis(500)) {
                Ok(line) => {
                    text.push_str(&line);
                    text.push('\n');
                    if line.contains("ops;") || line.contains("rror") || line.contains("failed") {
                        break;
                    }
                }
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
                Err(_) => break,
            }
        }
        text
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
