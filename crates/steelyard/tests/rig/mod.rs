//! The three processes on ports of their own, prepared by `steelyard up`, driven over the command line and the REST interface.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

const DATABASE: &str = "STEELYARD_GLOBAL_DATABASE";
const BINARY: &str = env!("CARGO_BIN_EXE_steelyard");

pub struct Rig {
    pub folder: tempfile::TempDir,
    port: u16,
    global: Option<Child>,
    site: Option<Child>,
    yard: Option<Child>,
    key: String,
    /// Of the Global Controller, when it is not the embedded one.
    database: Option<String>,
    http: reqwest::blocking::Client,
}

impl Rig {
    /// Registers the hardware with `steelyard up`, stops that, and starts the parts one by one.
    pub fn new(port: u16, servers: u32) -> Self {
        Self::with_database(port, servers, None)
    }

    /// The same with the database of that address.
    pub fn with_database(port: u16, servers: u32, database: Option<String>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut up = Command::new(BINARY)
            .args(["up", "--port", &port.to_string(), "--servers", &servers.to_string(), "--boot-seconds", "0.05"])
            .arg("--data-dir")
            .arg(folder.path())
            .env("STEELYARD_YARD_MODELS", "dell-r650")
            .envs(database.iter().map(|url| (DATABASE, url)))
            .stdout(std::fs::File::create(folder.path().join("up.out")).unwrap())
            .stderr(std::fs::File::create(folder.path().join("up.err")).unwrap())
            .spawn()
            .unwrap();
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap_or_default();
        let end = Instant::now() + Duration::from_mins(2);
        while !read("up.out").contains("Ctrl-C stops it") {
            assert!(up.try_wait().unwrap().is_none(), "`up` ended: {}", read("up.err"));
            assert!(Instant::now() < end, "`up` is not ready: {}", read("up.err"));
            std::thread::sleep(Duration::from_millis(50));
        }
        terminate(&mut up);
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut rig = Self {
            folder,
            port,
            global: None,
            site: None,
            yard: None,
            key: String::new(),
            database,
            http: reqwest::blocking::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().unwrap(),
        };
        rig.start_yard();
        rig.start_global();
        rig.start_site();
        rig.log_in();
        rig
    }

    fn start(&self, part: &str) -> Child {
        let log = |kind: &str| {
            let path = self.folder.path().join("logs").join(format!("{part}.{kind}"));
            std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap()
        };
        Command::new(BINARY)
            .arg(part)
            .arg("--config")
            .arg(self.folder.path().join("steelyard.toml"))
            .arg("--until-stdin-ends")
            .env("STEELYARD_YARD_MODELS", "dell-r650")
            .envs(self.database.iter().map(|url| (DATABASE, url)))
            .stdin(Stdio::piped())
            .stdout(log("out"))
            .stderr(log("log"))
            .spawn()
            .unwrap()
    }

    pub fn start_yard(&mut self) {
        self.yard = Some(self.start("yard"));
        let url = format!("http://127.0.0.1:{}/inventory", self.port + 5);
        self.wait("the yard", || self.http.get(&url).send().is_ok_and(|a| a.status().is_success()));
    }

    pub fn start_global(&mut self) {
        self.global = Some(self.start("global"));
        self.wait("the Global Controller", || self.raw("GET", "/health", None).is_some());
    }

    pub fn start_site(&mut self) {
        self.site = Some(self.start("site"));
    }

    /// `kill -9`.
    pub fn kill_global(&mut self) {
        kill(&mut self.global);
    }

    /// `kill -9`.
    pub fn kill_site(&mut self) {
        kill(&mut self.site);
    }

    pub fn wait(&self, what: &str, mut ready: impl FnMut() -> bool) {
        let end = Instant::now() + Duration::from_mins(2);
        while !ready() {
            assert!(Instant::now() < end, "waited in vain for {what}\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn logs(&self) -> String {
        ["global.log", "site.log"]
            .map(|name| {
                let text = std::fs::read_to_string(self.folder.path().join("logs").join(name)).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                format!("{name}:\n  {}\n", lines[lines.len().saturating_sub(15)..].join("\n  "))
            })
            .concat()
    }

    fn raw(&self, method: &str, path: &str, body: Option<&Value>) -> Option<Value> {
        let url = format!("http://127.0.0.1:{}/api/v2{path}", self.port);
        let mut request = self.http.request(method.parse().unwrap(), url).bearer_auth(&self.key);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().ok()?;
        let status = answer.status();
        let text = answer.text().ok()?;
        assert!(status.is_success(), "{method} {path}: {status} {text}");
        Some(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// The answer, or nothing while the Global Controller is away.
    pub fn get(&self, path: &str) -> Option<Value> {
        self.raw("GET", path, None)
    }

    fn log_in(&mut self) {
        let login: Value =
            serde_json::from_str(&std::fs::read_to_string(self.folder.path().join("login.json")).unwrap()).unwrap();
        let body = serde_json::json!({"provider": "mysql", "properties": login});
        self.raw("POST", "/login", Some(&body)).unwrap()["sessionToken"].as_str().unwrap().clone_into(&mut self.key);
        let made = self.raw("POST", "/user/api-keys", Some(&serde_json::json!({"name": "test"}))).unwrap();
        made["apiKey"].as_str().unwrap().clone_into(&mut self.key);
    }

    /// The command line.
    pub fn cli(&self, arguments: &[&str]) -> String {
        let Output { status, stdout, stderr } = Command::new(BINARY)
            .args(arguments)
            .env("STEELYARD_SERVER", format!("http://127.0.0.1:{}", self.port))
            .env("STEELYARD_API_KEY", &self.key)
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(status.success(), "steelyard {}: {}\n{}", arguments.join(" "), text(&stderr), self.logs());
        text(&stdout)
    }

    /// The serial console of a server, whose standard input and output are pipes.
    pub fn console(&self, id: i64) -> Child {
        Command::new(BINARY)
            .args(["server", "console", &id.to_string()])
            .env("STEELYARD_SERVER", format!("http://127.0.0.1:{}", self.port))
            .env("STEELYARD_API_KEY", &self.key)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// One answer of the simulated datacenter.
    pub fn yard(&self, path: &str) -> Value {
        let url = format!("http://127.0.0.1:{}{path}", self.port + 5);
        self.http.get(url).send().unwrap().json().unwrap()
    }

    /// Host names of the systems that run in the simulated datacenter.
    pub fn running(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .yard("/servers")
            .as_array()
            .unwrap()
            .iter()
            .filter(|s| s["power"] == "on")
            .filter_map(|s| s["hostname"].as_str().map(str::to_owned))
            .collect();
        names.sort();
        names
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

fn kill(child: &mut Option<Child>) {
    let mut child = child.take().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The word to stop, as Ctrl-C gives it.
fn terminate(child: &mut Child) {
    let stopped = Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(stopped.success());
    child.wait().unwrap();
}

impl Drop for Rig {
    fn drop(&mut self) {
        for child in [&mut self.site, &mut self.global, &mut self.yard] {
            if let Some(mut child) = child.take() {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

/// A path as the command line takes it.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
