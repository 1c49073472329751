//! Test support: one test body on both databases.
//!
//! [`both`] runs a test on a fresh SQLite file and then on a fresh database of a private PostgreSQL
//! cluster. The cluster is started once per test process, listens on a free port of 127.0.0.1 with a
//! random password, and goes away with the process, however that ends: a supervising shell holds the
//! other end of a pipe and, at its end of file, stops the server and removes the data directory.
//!
//! Where PostgreSQL is not installed the second half is skipped, said loudly on standard error (past
//! the test harness' capture) and left in `target/postgres-not-tested` for the build to repeat. An
//! installed PostgreSQL that does not start fails the test.
#![allow(clippy::expect_used, clippy::panic, reason = "test support: a failed preparation is a failed test")]

use std::fmt::Write as _;
use std::fs;
use std::future::Future;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sea_orm::ConnectionTrait;

use crate::db::Database;

/// Directory with `initdb` and `postgres`; overrides the search. A directory without them counts as
/// "not installed".
pub const BIN_VARIABLE: &str = "STEELYARD_POSTGRES_BIN";

/// `initdb` on a loaded machine takes seconds; start-up of an empty cluster less.
const START_DEADLINE: Duration = Duration::from_secs(90);

/// Another process may take the free port between the probe and the bind.
const START_ATTEMPTS: u32 = 5;

/// Runs `test` on an empty SQLite database and on an empty PostgreSQL database (no migration applied).
///
/// # Panics
/// When a database cannot be prepared, and when `test` does; the backend in use is named on standard
/// error first.
pub async fn both<F, T>(test: F)
where
    F: Fn(Database) -> T,
    T: Future<Output = ()>,
{
    sqlite(&test).await;
    postgres(&test).await;
}

/// Runs `test` on an empty SQLite file alone.
///
/// # Panics
/// As [`both`].
pub async fn sqlite<F, T>(test: F)
where
    F: Fn(Database) -> T,
    T: Future<Output = ()>,
{
    let directory = tempfile::tempdir().expect("a temporary directory for the SQLite file");
    let url = format!("sqlite://{}?mode=rwc", directory.path().join("test.db").display());
    eprintln!("-- on SQLite");
    run(&url, &test).await;
}

/// Runs `test` on an empty PostgreSQL database alone, or says that it could not.
///
/// # Panics
/// As [`both`].
pub async fn postgres<F, T>(test: F)
where
    F: Fn(Database) -> T,
    T: Future<Output = ()>,
{
    let Some(cluster) = cluster() else { return };
    let name = cluster.create_database().await;
    eprintln!("-- on PostgreSQL, database {name}");
    run(&cluster.url(&name), &test).await;
    cluster.administer(&format!("DROP DATABASE {name} WITH (FORCE)")).await;
}

/// The address of an empty PostgreSQL database for a process under test; nothing, and said so, where it is not installed.
/// The database goes with the cluster.
///
/// # Panics
/// As [`both`].
pub async fn postgres_url() -> Option<String> {
    let cluster = cluster()?;
    let name = cluster.create_database().await;
    Some(cluster.url(&name))
}

/// Opens `url`, runs the test and closes every connection, so that the files behind can go.
async fn run<F, T>(url: &str, test: &F)
where
    F: Fn(Database) -> T,
    T: Future<Output = ()>,
{
    let database = Database::open(url).await.expect("an empty database opens");
    let (read, write) = (database.read.clone(), database.write.clone());
    test(database).await;
    read.close().await.expect("the read pool closes");
    write.close().await.expect("the write pool closes");
}

/// A running private server.
struct Cluster {
    port: u16,
    password: String,
    /// Serialises CREATE and DROP DATABASE: copies of one template exclude each other.
    administration: tokio::sync::Mutex<()>,
    next: AtomicU32,
    /// Kept for its standard input: closing that (the end of this process) stops the server.
    _supervisor: Child,
}

impl Cluster {
    fn url(&self, database: &str) -> String {
        format!("postgres://postgres:{}@127.0.0.1:{}/{database}?sslmode=disable", self.password, self.port)
    }

    async fn create_database(&self) -> String {
        let name = format!("test_{}", self.next.fetch_add(1, Ordering::Relaxed));
        self.administer(&format!("CREATE DATABASE {name} TEMPLATE template0")).await;
        name
    }

    async fn administer(&self, sql: &str) {
        let _one_at_a_time = self.administration.lock().await;
        let mut options = sea_orm::ConnectOptions::new(self.url("postgres"));
        options.max_connections(1).sqlx_logging(false);
        let connection = sea_orm::Database::connect(options).await.expect("the private PostgreSQL answers");
        connection.execute_unprepared(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        connection.close().await.expect("the connection closes");
    }
}

/// The process' cluster, started by the first caller. None: not installed.
fn cluster() -> Option<&'static Cluster> {
    static CLUSTER: OnceLock<Result<Option<Cluster>, String>> = OnceLock::new();
    let started = CLUSTER.get_or_init(|| match find_binaries() {
        Ok(binaries) => start(&binaries).map(Some),
        Err(reason) => {
            report_missing(&reason);
            Ok(None)
        }
    });
    match started {
        Ok(cluster) => cluster.as_ref(),
        Err(error) => panic!("PostgreSQL is installed, but the private cluster failed: {error}"),
    }
}

/// The directory that holds both programs: the newest packaged version, else the search path's.
fn find_binaries() -> Result<PathBuf, String> {
    let complete = |directory: &PathBuf| ["initdb", "postgres"].iter().all(|program| directory.join(program).is_file());
    if let Some(directory) = std::env::var_os(BIN_VARIABLE).map(PathBuf::from) {
        return Some(directory)
            .filter(complete)
            .ok_or_else(|| format!("no initdb and postgres in the directory {BIN_VARIABLE} names"));
    }
    let mut packaged: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    packaged.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    let path = std::env::var_os("PATH").unwrap_or_default();
    packaged
        .into_iter()
        .map(|(_, directory)| directory)
        .chain(std::env::split_paths(&path))
        .find(complete)
        .ok_or_else(|| "no initdb and postgres in /usr/lib/postgresql/*/bin or PATH".to_owned())
}

/// Where the build looks for the notice of a skipped half.
fn notice_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/postgres-not-tested")
}

fn report_missing(reason: &str) {
    let line = format!("POSTGRES NOT TESTED: {reason}\n");
    // The harness captures the print macros only; this has to be seen in a passing run too.
    let _ = std::io::stderr().write_all(line.as_bytes());
    let file = notice_file();
    if let Some(parent) = file.parent() {
        let _ = fs::create_dir_all(parent);
    }
    let _ = fs::write(file, line);
}

/// Makes and starts the cluster; the error carries the server's own words.
fn start(binaries: &Path) -> Result<Cluster, String> {
    let deadline = Instant::now() + START_DEADLINE;
    let directory = tempfile::Builder::new()
        .prefix("postgres-test-")
        .tempdir()
        .map_err(|error| format!("temporary directory: {error}"))?;
    let password = uuid::Uuid::new_v4().simple().to_string();
    let account = Account::for_directory(directory.path())?;
    let data = directory.path().join("data");
    initialise(binaries, directory.path(), &data, &account, &password)?;

    let mut last = String::new();
    for _ in 0..START_ATTEMPTS {
        let port = free_port().map_err(|error| format!("free port: {error}"))?;
        let log = directory.path().join(format!("log-{port}"));
        let mut supervisor = account
            .shell(SUPERVISE)
            .env("POSTGRES", binaries.join("postgres"))
            .env("DIRECTORY", directory.path())
            .env("LOG", &log)
            .env("PORT", port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C at the terminal must reach the tests only: the supervisor cleans up after them.
            .process_group(0)
            .spawn()
            .map_err(|error| format!("start of {}: {error}", account.describe()))?;
        match await_ready(&mut supervisor, &data, port, deadline) {
            Ok(()) => {
                // From here the supervisor removes the directory.
                let _ = directory.keep();
                let _ = fs::remove_file(notice_file());
                return Ok(Cluster {
                    port,
                    password,
                    administration: tokio::sync::Mutex::new(()),
                    next: AtomicU32::new(0),
                    _supervisor: supervisor,
                });
            }
            Err(error) => {
                drop(supervisor.stdin.take());
                let _ = supervisor.wait();
                last = format!("{error}\n{}", fs::read_to_string(&log).unwrap_or_default());
                if Instant::now() >= deadline || !data.is_dir() {
                    break;
                }
            }
        }
    }
    Err(last)
}

/// Holds the server while standard input is open, then stops it at once and removes everything.
///
/// A background command's standard input is /dev/null, hence descriptor 3. A server that ends by itself
/// (a taken port) leaves its data for the next attempt.
const SUPERVISE: &str = r#"
exec 3<&0 </dev/null
"$POSTGRES" -D "$DIRECTORY/data" -p "$PORT" -c listen_addresses=127.0.0.1 -c unix_socket_directories= \
  -c fsync=off -c synchronous_commit=off -c full_page_writes=off -c max_connections=200 \
  -c shared_buffers=16MB -c timezone=UTC >"$LOG" 2>&1 3<&- &
server=$!
( cat <&3 >/dev/null; : >"$DIRECTORY/stopped"; kill -QUIT "$server" ) &
watcher=$!
exec 3<&-
wait "$server"
if [ -e "$DIRECTORY/stopped" ]; then
  wait "$watcher"
  rm -rf "$DIRECTORY"
else
  kill "$watcher"
fi
"#;

fn initialise(binaries: &Path, directory: &Path, data: &Path, account: &Account, password: &str) -> Result<(), String> {
    let password_file = directory.join("password");
    fs::write(&password_file, password)
        .and_then(|()| fs::set_permissions(&password_file, fs::Permissions::from_mode(0o600)))
        .map_err(|error| format!("{}: {error}", password_file.display()))?;
    account.give(&password_file)?;
    let output = account
        .shell(
            r#"exec "$INITDB" -D "$DATA" -U postgres -A scram-sha-256 --pwfile="$PASSWORD_FILE" -E UTF8 --locale=C --no-sync --no-instructions"#,
        )
        .env("INITDB", binaries.join("initdb"))
        .env("DATA", data)
        .env("PASSWORD_FILE", &password_file)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("start of {}: {error}", account.describe()))?;
    check("initdb", &output)
}

fn check(what: &str, output: &Output) -> Result<(), String> {
    if output.status.success() {
        return Ok(());
    }
    let mut error = format!("{what}: {}", output.status);
    for stream in [&output.stdout, &output.stderr] {
        let _ = write!(error, "\n{}", String::from_utf8_lossy(stream).trim());
    }
    Err(error)
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Waits until the server has written `ready` for this port into its `postmaster.pid` (line 4: port,
/// line 8: status), which is the sign that `pg_ctl --wait` goes by.
fn await_ready(supervisor: &mut Child, data: &Path, port: u16, deadline: Instant) -> Result<(), String> {
    let file = data.join("postmaster.pid");
    loop {
        let content = fs::read_to_string(&file).unwrap_or_default();
        let lines: Vec<&str> = content.lines().map(str::trim).collect();
        let of_this_start = lines.get(3).and_then(|line| line.parse().ok()) == Some(port);
        if of_this_start && lines.get(7) == Some(&"ready") {
            return Ok(());
        }
        let ended: Option<ExitStatus> = supervisor.try_wait().map_err(|error| format!("supervisor: {error}"))?;
        if ended.is_some() {
            return Err(format!("the server ended while starting on port {port}"));
        }
        if Instant::now() >= deadline {
            return Err(format!("the server was not ready on port {port} within {} s", START_DEADLINE.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Who runs the server: it refuses to run as root.
enum Account {
    /// The tests' own user.
    Own,
    /// An unprivileged account taken on by root.
    Other { name: String, uid: u32, gid: u32, setpriv: bool },
}

impl Account {
    /// Chooses the account and gives it `directory`, which this process has just made.
    fn for_directory(directory: &Path) -> Result<Self, String> {
        let owner = fs::metadata(directory).map_err(|error| format!("{}: {error}", directory.display()))?.uid();
        if owner != 0 {
            return Ok(Self::Own);
        }
        let passwd = fs::read_to_string("/etc/passwd").map_err(|error| format!("/etc/passwd: {error}"))?;
        let (name, uid, gid) = ["postgres", "nobody"]
            .iter()
            .find_map(|wanted| find_account(&passwd, wanted))
            .ok_or("running as root, and no account postgres or nobody to run the server as")?;
        let setpriv = Command::new("setpriv")
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        let account = Self::Other { name, uid, gid, setpriv };
        account.give(directory)?;
        Ok(account)
    }

    fn give(&self, path: &Path) -> Result<(), String> {
        match self {
            Self::Own => Ok(()),
            Self::Other { uid, gid, .. } => {
                chown(path, Some(*uid), Some(*gid)).map_err(|error| format!("chown of {}: {error}", path.display()))
            }
        }
    }

    /// A shell running `script` as this account; parameters go through the environment, which both
    /// ways of changing the user keep.
    fn shell(&self, script: &str) -> Command {
        let mut command = match self {
            Self::Own => Command::new("sh"),
            Self::Other { uid, gid, setpriv: true, .. } => {
                let mut command = Command::new("setpriv");
                command.arg(format!("--reuid={uid}")).arg(format!("--regid={gid}")).args(["--clear-groups", "sh"]);
                command
            }
            Self::Other { name, .. } => {
                let mut command = Command::new("su");
                command.args(["-s", "/bin/sh", name]);
                command
            }
        };
        command.arg("-c").arg(script).current_dir("/").env("LC_ALL", "C");
        command
    }

    fn describe(&self) -> String {
        match self {
            Self::Own => "sh".to_owned(),
            Self::Other { name, setpriv: true, .. } => format!("sh as {name} by setpriv"),
            Self::Other { name, .. } => format!("sh as {name} by su"),
        }
    }
}

/// Name, uid and gid from the text of a passwd(5) file.
fn find_account(passwd: &str, wanted: &str) -> Option<(String, u32, u32)> {
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        match fields.as_slice() {
            [name, _, uid, gid, ..] if *name == wanted => {
                Some(((*name).to_owned(), uid.parse().ok()?, gid.parse().ok()?))
            }
            _ => None,
        }
    })
}
