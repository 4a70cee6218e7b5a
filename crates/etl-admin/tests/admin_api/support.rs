//! A server on a free port, and a client that says exactly what it is told to.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use etl_admin::{
    Admin, AdminOptions, Asked, DeadLetterTopic, DeadLetters, DeadLettersError, Host, Letter,
    LetterKey, LetterReason, NewEntry, Page, Redriven, Role, Scope, Store, Wanted,
};
use etl_config::{LoadOptions, Loaded, Report};
use etl_orchestrator::{Options, Orchestrator, Record};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A module that keeps every record.
pub const KEEP: &str = r#"(module
  (memory (export "memory") 64)
  (func (export "etl_alloc_v1") (param i32) (result i32) (i32.const 1024))
  (func (export "etl_process_v1") (param i32 i32) (result i64) (i64.const 0)))"#;

const CONFIGURATION: &str = r#"
[engine]
lanes = 1
[[modules]]
id = "keep"
path = "modules/keep.wasm"
[[pipelines]]
pipeline_id = "orders-eu"
name = "orders of ${REGION}"
stages = [{ priority = 0, modules = [{ module_id = "keep", topic_filters = [{ filter_type = "Prefix", pattern = "orders." }] }] }]
[[pipelines]]
pipeline_id = "payments"
stages = [{ priority = 0, modules = [{ module_id = "keep" }, { module_id = "found" }] }]
"#;

/// What the value of `${REGION}` is; it must never be seen.
pub const CANARY: &str = "canary-a8f3c1";

pub struct Program {
    folder: PathBuf,
    orchestrator: Arc<Orchestrator>,
}

fn load_options() -> LoadOptions {
    LoadOptions::isolated().variable("REGION", CANARY)
}

impl Host for Program {
    fn load(&self) -> Result<Loaded, Report> {
        let is_broken = self.folder.join("broken").exists();
        assert!(!is_broken, "a mistake in the program, as the test wants it");
        etl_config::load(self.folder.join("etl.toml"), &load_options())
    }

    fn load_options(&self) -> LoadOptions {
        load_options()
    }

    fn metrics(&self) -> String {
        let records = self.orchestrator.stats().counts.totals.records_in;
        format!("etl_records_total {records}\n")
    }

    fn dead_letters(&self) -> Option<&dyn DeadLetters> {
        Some(&Letters)
    }

    fn waiting(&self) -> Vec<String> {
        vec![WAITING.to_owned()]
    }

    fn explain(&self, asked: Asked<'_>) -> Result<String, String> {
        let (topic, outputs) = match asked {
            Asked::Topic(topic) => (topic.to_owned(), 0),
            Asked::Record(line) => {
                let line: Value =
                    serde_json::from_slice(line).map_err(|error| error.to_string())?;
                let topic = line["topic"].as_str().ok_or("no topic")?;
                let record = Record::new(topic, line["value"].to_string());
                let (outcome, _) = self.orchestrator.process_traced(&Arc::new(record));
                (topic.to_owned(), outcome.outputs.len())
            }
        };
        let explained = self.orchestrator.explain(&topic);
        let pipelines: Vec<Value> = explained
            .pipelines
            .iter()
            .map(|pipeline| json!({ "id": pipeline.id, "selected": pipeline.selected }))
            .collect();
        Ok(json!({
            "topic": topic,
            "generation": explained.generation,
            "pipelines": pipelines,
            "outputs": outputs,
        })
        .to_string())
    }
}

/// What is away, and may be told of to those who see all pipelines.
pub const WAITING: &str = "cannot write to the place of payments; trying again in 1.0 s";

/// What no test may see who should not.
pub const LETTER: &str = "what-the-record-held";

/// Two dead letters, one of each pipeline; the ones of real brokers are tested with the program.
struct Letters;

impl Letters {
    fn all(wanted: &Wanted<'_>) -> Vec<Letter> {
        let letter = |offset, pipeline: &str| Letter {
            key: LetterKey {
                failed_at_unix_ms: 1_700_000_000_000 + offset,
                partition: 0,
                offset,
            },
            kind: "Trap".to_owned(),
            message: "unreachable".to_owned(),
            pipeline: Some(pipeline.to_owned()),
            stage: Some(0),
            module: Some("keep".to_owned()),
            module_sha256: None,
            generation: Some(1),
            attempts: Some(1),
            redriven: 0,
            original_topic: Some("orders.1".to_owned()),
            can_go_back: true,
            value_bytes: 9,
            line: Some(format!(
                "{{\"topic\":\"t.dlq\",\"value\":[\"{LETTER}\",12345678901234567890123]}}"
            )),
        };
        let letters = [letter(2, "payments"), letter(1, "orders-eu")].into_iter();
        let meant = letters.filter(|letter| {
            (wanted.reaches)(letter.pipeline.as_deref())
                && wanted.module.is_none_or(|module| module == "keep")
                && wanted.kind.is_none_or(|kind| kind == "Trap")
        });
        meant.collect()
    }
}

impl DeadLetters for Letters {
    fn topics(&self) -> Result<Vec<DeadLetterTopic>, DeadLettersError> {
        Ok(vec![DeadLetterTopic {
            topic: "t.dlq".to_owned(),
            records: Some(2),
        }])
    }

    fn browse(
        &self,
        wanted: &Wanted<'_>,
        before: Option<LetterKey>,
        limit: usize,
    ) -> Result<Page, DeadLettersError> {
        if wanted.topic == "away" {
            let message = "nobody answers".to_owned();
            let is_absent = false;
            return Err(DeadLettersError { is_absent, message });
        }
        let mut letters = Self::all(wanted);
        letters.retain(|letter| before.is_none_or(|before| letter.key < before));
        let has_more = letters.len() > limit;
        letters.truncate(limit);
        Ok(Page {
            letters,
            has_more,
            is_cut: false,
        })
    }

    fn redrive(
        &self,
        wanted: &Wanted<'_>,
        _attempts: u32,
        dry_run: bool,
    ) -> Result<Redriven, DeadLettersError> {
        let selected = Self::all(wanted).len() as u64;
        Ok(Redriven {
            selected,
            others: 2 - selected,
            redriven: if dry_run { 0 } else { selected },
            reasons: vec![LetterReason {
                count: selected,
                kind: "Trap".to_owned(),
                module: "keep".to_owned(),
                message: "unreachable".to_owned(),
            }],
            ..Redriven::default()
        })
    }
}

/// A running engine with its API, and everybody who may use it.
pub struct Server {
    pub folder: TempDir,
    pub address: SocketAddr,
    pub orchestrator: Arc<Orchestrator>,
    close: Option<Box<dyn FnOnce() + Send>>,
    _runtime: tokio::runtime::Runtime,
}

impl Server {
    pub fn start() -> Self {
        Self::with(|_| {})
    }

    pub fn with(amend: impl FnOnce(&mut AdminOptions)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let modules = folder.path().join("modules");
        std::fs::create_dir(&modules).expect("a folder");
        let wasm = wat::parse_str(KEEP).expect("a module");
        for name in ["keep.wasm", "found.wasm"] {
            std::fs::write(modules.join(name), &wasm).expect("a file");
        }
        let file = folder.path().join("etl.toml");
        std::fs::write(&file, CONFIGURATION).expect("a file");
        let loaded = etl_config::load(&file, &load_options()).expect("it loads");
        let orchestrator = Orchestrator::start(loaded, Options::default()).expect("it starts");
        let program = Program {
            folder: folder.path().to_owned(),
            orchestrator: orchestrator.clone(),
        };
        let address = "127.0.0.1:0".parse().expect("an address");
        let mut options = AdminOptions::new(address, folder.path().join("admin"));
        amend(&mut options);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let admin = runtime
            .block_on(Admin::bind(options, orchestrator.clone(), program))
            .expect("it listens");
        let url = admin.url();
        let (_, address) = url.split_once("://").expect("a URL");
        let address = address.parse().expect("an address");
        let close = Some(Box::new(admin.closer()) as Box<dyn FnOnce() + Send>);
        runtime.spawn(admin.run());
        Self {
            folder,
            address,
            orchestrator,
            close,
            _runtime: runtime,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn store(&self) -> Store {
        Store::in_folder(self.path("admin"))
    }

    /// A token for somebody of this role and name.
    pub fn token(&self, role: Role, name: &str) -> String {
        self.token_with(role, name, &[], None)
    }

    pub fn token_with(
        &self,
        role: Role,
        name: &str,
        pipelines: &[&str],
        expires: Option<u64>,
    ) -> String {
        let patterns = pipelines.iter().map(|&pattern| pattern.to_owned());
        let new = NewEntry {
            name: name.to_owned(),
            role,
            scope: Scope::new(patterns.collect()),
            expires,
        };
        self.store().create_token(new).expect("a token").reveal()
    }

    pub fn ask(&self, request: Request<'_>) -> Answer {
        let mut answer = self.talk(&request.bytes()).expect("an answer");
        if request.method == "HEAD" {
            assert_eq!(answer.text, "");
        }
        answer.asked = format!("{} {}", request.method, request.target);
        answer
    }

    /// Says this, and reads the first answer.
    pub fn talk(&self, bytes: &[u8]) -> Option<Answer> {
        let mut stream = self.connect();
        let mut writer = stream.try_clone().expect("a second handle");
        let bytes = bytes.to_vec();
        // The server may well stop listening before everything is said.
        let writing = std::thread::spawn(move || {
            let _ = writer.write_all(&bytes);
        });
        let answer = read_answer(&mut stream);
        let _ = stream.shutdown(std::net::Shutdown::Both);
        let _ = writing.join();
        answer
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("it listens");
        let patience = Some(Duration::from_secs(60));
        stream.set_read_timeout(patience).expect("a timeout");
        stream
    }

    pub fn close(&mut self) {
        (self.close.take().expect("not closed yet"))();
    }

    /// The names of the files of modules.
    pub fn modules(&self) -> Vec<String> {
        files(&self.path("modules"))
    }
}

fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> = entries
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("text")
        })
        .collect();
    names.sort();
    names
}

#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub method: &'a str,
    pub target: &'a str,
    pub token: Option<&'a str>,
    pub content: Option<(&'a str, &'a [u8])>,
    pub if_match: Option<&'a str>,
}

impl<'a> Request<'a> {
    pub fn new(method: &'a str, target: &'a str) -> Self {
        Self {
            method,
            target,
            token: None,
            content: None,
            if_match: None,
        }
    }

    pub fn by(mut self, token: &'a str) -> Self {
        self.token = Some(token);
        self
    }

    pub fn with(mut self, kind: &'a str, body: &'a [u8]) -> Self {
        self.content = Some((kind, body));
        self
    }

    pub fn if_match(mut self, tag: &'a str) -> Self {
        self.if_match = Some(tag);
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nhost: test\r\n", self.method, self.target);
        if let Some(token) = self.token {
            head.push_str(&format!("authorization: Bearer {token}\r\n"));
        }
        if let Some(tag) = self.if_match {
            head.push_str(&format!("if-match: {tag}\r\n"));
        }
        let body = match self.content {
            Some((kind, body)) => {
                let length = body.len();
                head.push_str(&format!(
                    "content-type: {kind}\r\ncontent-length: {length}\r\n"
                ));
                body
            }
            None => &[],
        };
        head.push_str("\r\n");
        [head.as_bytes(), body].concat()
    }
}

#[derive(Debug)]
pub struct Answer {
    pub asked: String,
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub text: String,
}

impl Answer {
    #[track_caller]
    pub fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:#?}");
        self
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let (_, value) = headers.find(|(other, _)| other == name)?;
        Some(value)
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// The next answer on a connection; `None` where it ends.
pub fn read_answer(stream: &mut impl Read) -> Option<Answer> {
    let mut bytes = Vec::new();
    let mut byte = [0; 1];
    while !bytes.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => bytes.push(byte[0]),
            _ => return None,
        }
    }
    let head = String::from_utf8(bytes).expect("text");
    let mut lines = head.trim_end().split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().expect("a status");
    let headers: Vec<(String, String)> = lines
        .map(|line| {
            let (name, value) = line.split_once(": ").expect("a header");
            (name.to_owned(), value.to_owned())
        })
        .collect();
    let mut answer = Answer {
        asked: String::new(),
        status,
        headers,
        text: String::new(),
    };
    let length: usize = answer.header("content-length")?.parse().expect("a length");
    let mut body = vec![0; length];
    // What was only asked for its head has a length and no body.
    match stream.read_exact(&mut body) {
        Ok(()) => answer.text = String::from_utf8(body).expect("text"),
        Err(_) => body.clear(),
    }
    Some(answer)
}
