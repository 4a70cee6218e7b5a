//! What can be typed, and the help that teaches it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use etl_broker_adapter::AdapterUrl;

use crate::logging::EnvFilterText;
use crate::matching::MatchOptions;
use crate::redrive::RedriveOptions;
use crate::replay::ReplayOptions;
use crate::secret::{SecretArguments, SecretOptions};
use crate::top::TopOptions;
use crate::topics::{SendOptions, TailOptions, TopicsOptions};

const EXAMPLES: &str = "\
Examples:
  etl validate etl.toml
      Is this configuration right? Everything that is wrong, in one report.
  etl run etl.toml --from file:in.ndjson --to file:out.ndjson
      Send every record of a file through the pipelines.
  etl explain etl.toml --topic iot.sensors.temperature
      Which modules would see a record of this topic, and why not the others?

Exit codes:
  0 done   1 it failed   2 wrong arguments   78 wrong configuration";

/// Runs records through WASM modules, in order of priority
#[derive(Debug, Parser)]
#[command(name = "etl", version, after_help = EXAMPLES, max_term_width = 100, arg_required_else_help = true)]
#[command(propagate_version = true, subcommand_required = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,

    /// What to log on standard error: error, warn, info, debug, trace, or per crate as in
    /// `warn,etl_pool=debug`
    #[arg(
        long,
        global = true,
        value_name = "LEVEL",
        env = "ETL_LOG",
        default_value = "error",
        hide_env_values = true
    )]
    pub log: EnvFilterText,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Run(Box<RunOptions>),
    Validate(ValidateOptions),
    Explain(ExplainOptions),
    /// Print the JSON Schema of the configuration, for editors
    #[command(after_help = SCHEMA_HELP)]
    Schema,
    /// Look at WASM modules
    #[command(subcommand)]
    Module(ModuleCommand),
    Match(MatchOptions),
    Secret(SecretArguments),
    /// Say who may use the API of `etl run --admin`
    #[command(subcommand)]
    Admin(AdminCommand),
    /// Look at the log of what was changed through the API
    #[command(subcommand)]
    Audit(AuditCommand),
    Top(TopOptions),
    Topics(TopicsOptions),
    Send(SendOptions),
    Tail(TailOptions),
    Redrive(RedriveOptions),
    Replay(ReplayOptions),
    #[cfg(feature = "nats")]
    Push(crate::fleet::PushOptions),
    #[cfg(feature = "nats")]
    Fleet(crate::fleet::FleetOptions),
    /// Write what other programs need to watch this one
    #[command(subcommand)]
    Generate(GenerateCommand),
}

const RULES_HELP: &str = "\
Examples:
  etl generate prometheus-rules > /etc/prometheus/rules/etl.yml
      Then name the file under rule_files in prometheus.yml.";

const DASHBOARD_HELP: &str = "\
Examples:
  etl generate grafana-dashboard > etl-dashboard.json
      Then Dashboards, New, Import in Grafana; it asks for the Prometheus data source.";

#[derive(Debug, Subcommand)]
pub enum GenerateCommand {
    /// Print the alerts as a Prometheus rules file
    #[command(after_help = RULES_HELP)]
    PrometheusRules,
    /// Print a Grafana dashboard of every metric
    #[command(after_help = DASHBOARD_HELP)]
    GrafanaDashboard,
}

const TOKEN_CREATE_HELP: &str = "\
The token is printed once, alone on standard output; only its argon2id hash is kept.

Roles:
  viewer    looks at everything, and changes nothing
  operator  the same, and: enable and disable pipelines, move canaries, promote, roll back, reload
  admin     everything

Examples:
  etl admin token create --role admin --name anna > anna.token
  etl admin token create --role operator --name night-shift --expires 12h --pipelines 'orders-*'
  curl -H \"Authorization: Bearer $(cat anna.token)\" http://127.0.0.1:9400/api/v1/session";

const CERTIFICATE_HELP: &str = "\
The server must have been told with --admin-client-ca which authorities issue clients' certificates.

Examples:
  etl admin certificate allow collector.pem --role viewer --name collector";

/// The folder of what `etl run --admin` keeps
#[derive(Debug, Clone, Args)]
pub struct AdminFolder {
    /// The folder of those who may use the API, and of the audit log
    #[arg(
        long,
        value_name = "DIR",
        env = "ETL_ADMIN_DIR",
        default_value = "etl-admin",
        hide_env_values = true
    )]
    pub admin_dir: PathBuf,
}

#[derive(Debug, Subcommand)]
pub enum AdminCommand {
    /// Make, list and revoke tokens
    #[command(subcommand)]
    Token(TokenCommand),
    /// Let the owners of certificates in
    #[command(subcommand)]
    Certificate(CertificateCommand),
}

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token, and print it
    #[command(after_help = TOKEN_CREATE_HELP)]
    Create(TokenCreateOptions),
    /// List tokens and certificates, those that are of no use any more included
    List(TokenListOptions),
    /// Take a token or certificate back: it is of no use with the next request
    Revoke(TokenRevokeOptions),
}

const AUDIT_VERIFY_HELP: &str = "\
Every line holds the hash of the one before it, so a line that was changed, removed or moved is
found. The hash of the last line is printed: noted elsewhere, and given as --noted later, it proves
that nothing before it was touched since, not even by one who wrote the whole log anew.

Exit codes:
  0 the log is whole   1 it is not, or cannot be read

Examples:
  etl audit verify
  etl audit verify --json | jq -r .head > /somewhere/else/audit.head
  etl audit verify --noted $(cat /somewhere/else/audit.head)";

#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Find lines that were changed, removed or moved
    #[command(after_help = AUDIT_VERIFY_HELP)]
    Verify(AuditVerifyOptions),
}

#[derive(Debug, Args)]
pub struct AuditVerifyOptions {
    #[command(flatten)]
    pub folder: AdminFolder,

    /// The hash of a line that the log must hold
    #[arg(long, value_name = "HASH")]
    pub noted: Option<String>,

    /// Print it as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum CertificateCommand {
    /// Let the owner of a client certificate in
    #[command(after_help = CERTIFICATE_HELP)]
    Allow(CertificateAllowOptions),
}

#[derive(Debug, Args)]
pub struct GrantOptions {
    /// What they may do: viewer, operator or admin
    #[arg(long, value_name = "ROLE")]
    pub role: etl_admin::Role,

    /// Who it is, in the list of generations
    #[arg(long, value_name = "NAME")]
    pub name: String,

    /// When it ends: a time from now as in 90d or 12h, or a moment as in 2027-01-31T00:00:00Z [default: never]
    #[arg(long, value_name = "T")]
    pub expires: Option<String>,

    /// Only these pipelines, by id, with * for any characters; may be given more than once [default: all]
    #[arg(long, value_name = "PATTERN")]
    pub pipelines: Vec<String>,
}

#[derive(Debug, Args)]
pub struct TokenCreateOptions {
    #[command(flatten)]
    pub folder: AdminFolder,

    #[command(flatten)]
    pub grant: GrantOptions,
}

#[derive(Debug, Args)]
pub struct CertificateAllowOptions {
    /// The certificate, as a PEM file
    pub file: PathBuf,

    #[command(flatten)]
    pub folder: AdminFolder,

    #[command(flatten)]
    pub grant: GrantOptions,
}

#[derive(Debug, Args)]
pub struct TokenListOptions {
    #[command(flatten)]
    pub folder: AdminFolder,

    /// Print it as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct TokenRevokeOptions {
    /// The id or the name
    pub which: String,

    #[command(flatten)]
    pub folder: AdminFolder,
}

const SCHEMA_HELP: &str = "\
Examples:
  etl schema > etl.schema.json
      Then, in the first line of etl.toml, for editors with a TOML language server:
      #:schema ./etl.schema.json";

#[derive(Debug, Clone, Args)]
pub struct ConfigurationOptions {
    /// The configuration: a TOML or JSON file, a single pipeline document, or a folder with etl.toml
    pub config: PathBuf,

    /// Look for modules here, as MODULE_ID.wasm [default: modules_dir of the configuration, or
    /// modules/ beside it]
    #[arg(long, value_name = "DIR")]
    pub modules: Option<PathBuf>,

    /// Take warnings for errors
    #[arg(long)]
    pub deny_warnings: bool,

    #[command(flatten)]
    pub secrets: SecretOptions,
}

const RUN_HELP: &str = "\
URLs:
  file:PATH   record lines in a file; as output it is created, or emptied and overwritten
  file:PATH?checkpoint=FILE, file:PATH?append
              as input: go on where the run before was, by a note that this one keeps in FILE; as
              output: behind what is there, which such a run needs to lose nothing
  -           record lines on standard input or standard output
  embedded:DIR[?topics=a,b.*&consumer=etl&start=earliest|latest&follow&prefix=out.&durability=immediate|none]
              durable topics in a folder, with no server. As input: these topics (default: all but
              *.dlq and *.dlq.parked) from the consumer's position on, to the end unless `follow`;
              as output: topics are made as they are needed, `prefix` before each name. Input and
              output in one folder are one transaction: every record comes out exactly once,
              whatever dies when
  nats://[USER:PASSWORD@]HOST:PORT/STREAM[?consumer=etl&subject=orders.>&prefix=out&ack-wait=30s&creds=FILE]
              a stream of NATS JetStream; `consumer` is the durable pull consumer that is read, `prefix`
              stands before every topic in the subject; docs/operations.md has the rest

CONFIG may be a fleet, nats://HOST:PORT/FLEET: the run follows what `etl push` gives it.

A record line is one JSON object, of which only the topic must be there:
  {\"topic\":\"orders\",\"key\":\"17\",\"headers\":{\"source\":\"web\"},\"timestamp\":1517363399650,\"value\":{}}
The value keeps its text byte for byte unless a module changes it. A value that is not JSON is
written as value_base64, a key that is not text as key_base64, a header that is not text as
{\"base64\":…}, a header with several values as a list. A line that is no record becomes a dead
letter on the topic invalid.dlq (the dead-letter topic of `invalid`), and the run goes on.

Metrics (with --metrics ADDR):
  /metrics  every metric, for Prometheus; `etl generate` writes rules and a dashboard for them
  /healthz  200 while the process works
  /readyz   200 while records are taken, with the health as JSON: ok, or degraded and why; else 503

API (with --admin ADDR):
  /api/v1/openapi.json  says what there is: pipelines, modules, explain, generations, reload
  Everybody needs a token (`etl admin token create`) or a certificate that was let in.

Signals:
  Ctrl-C    reads no more, finishes what is in flight, prints the summary, exits with 130;
            a second one exits at once
  SIGTERM   the same, but exits with 0: a service that was asked to stop and did
  SIGHUP    loads the configuration again; one that cannot be used changes nothing

Exit codes:
  0 done (records that became dead letters are counted, not failures)   1 the run failed
  2 wrong arguments   78 wrong configuration   130 Ctrl-C   141 the reader of the output has gone

Examples:
  etl run etl.toml --from file:in.ndjson --to file:out.ndjson
  etl run etl.toml --from file:in.ndjson --to file:out.ndjson --dead-letters file:failed.ndjson
      Failed records in a file of their own, with the reason in their etl-dlq-* headers.
  generate | etl run etl.toml --from - --to - | jq .value
  etl run etl.toml --from 'embedded:data?topics=orders' --to 'embedded:data?prefix=done.'
      From topic to topic, exactly once.
  etl run etl.toml --from file:in.ndjson --to file:/dev/null --json 2>summary.json
      Only the figures, as JSON.";

/// Run records through the pipelines, from one place to another
#[derive(Debug, Clone, Args)]
#[command(after_help = RUN_HELP)]
pub struct RunOptions {
    #[command(flatten)]
    pub configuration: ConfigurationOptions,

    /// Where records come from: file:PATH, embedded:DIR, nats://…, kafka://… or -
    #[arg(long, value_name = "URL")]
    pub from: AdapterUrl,

    /// Where records go: file:PATH, embedded:DIR, nats://…, kafka://… or -
    #[arg(long, value_name = "URL")]
    pub to: AdapterUrl,

    /// Make places that do not exist
    #[arg(long)]
    pub create: bool,

    /// Where failed records go [default: where the others go, on their dead-letter topic]
    #[arg(long, value_name = "URL")]
    pub dead_letters: Option<AdapterUrl>,

    /// Records that are pulled together at most; the output is the same for every number
    #[arg(long, value_name = "N", default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub batch: u32,

    /// Records in flight at most, from being read to being safe; what is in flight when the process
    /// dies comes again where the source can do that
    #[arg(long, value_name = "N", default_value_t = 32_768, value_parser = clap::value_parser!(u32).range(1..=16_777_216))]
    pub in_flight: u32,

    /// Make a dead letter of a record that was given out so many times and never acknowledged, instead
    /// of trying it again
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_deliveries: Option<u32>,

    /// Threads that run modules [default: engine.lanes of the configuration, or one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_024))]
    pub lanes: Option<u32>,

    /// Load the configuration again when a file of it changes, those of modules among them
    #[arg(long)]
    pub watch: bool,

    /// Serve metrics, health and readiness by HTTP at this address, as in 127.0.0.1:9464; port 0 takes a
    /// free one and prints it
    #[arg(long, value_name = "ADDR")]
    pub metrics: Option<std::net::SocketAddr>,

    /// Serve the API for operators by HTTP at this address, as in 127.0.0.1:9400; port 0 takes a free one
    /// and prints it
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<std::net::SocketAddr>,

    #[command(flatten)]
    pub admin_options: AdminServerOptions,

    /// The longest line that is read; a longer one becomes a dead letter with its beginning
    #[arg(long, value_name = "BYTES", default_value_t = 16 * 1024 * 1024, value_parser = clap::value_parser!(u64).range(1..=4_294_967_296))]
    pub max_line_bytes: u64,

    /// Print the summary, and problems of the configuration, as one JSON object on standard error
    #[arg(long)]
    pub json: bool,

    /// Print neither progress nor summary
    #[arg(long, conflicts_with = "json")]
    pub quiet: bool,
}

/// How the API is served
#[derive(Debug, Clone, Args)]
pub struct AdminServerOptions {
    #[command(flatten)]
    pub folder: AdminFolder,

    /// The API's certificate and those between it and its authority, as a PEM file
    #[arg(long, value_name = "FILE", requires_all = ["admin", "admin_tls_key"])]
    pub admin_tls_cert: Option<PathBuf>,

    /// The private key of the certificate, as a PEM file
    #[arg(long, value_name = "FILE", requires = "admin_tls_cert")]
    pub admin_tls_key: Option<PathBuf>,

    /// The authorities whose certificates clients may show in the place of a token, as a PEM file
    #[arg(long, value_name = "FILE", requires = "admin_tls_cert")]
    pub admin_client_ca: Option<PathBuf>,

    /// Serve the API without TLS although others than this machine can reach the address
    #[arg(long, requires = "admin")]
    pub admin_without_tls: bool,

    /// How many generations of the configuration the API keeps in its folder, to be compared and gone back to
    /// after a restart too; 0 keeps none there
    #[arg(long, value_name = "N", requires = "admin", default_value_t = 32, value_parser = clap::value_parser!(u16).range(0..=1000))]
    pub keep_generations: u16,
}

const VALIDATE_HELP: &str = "\
Everything is built as for a run: patterns, conditions, modules. All that is wrong comes in one
report, with file, line, column, place in the configuration, and what to do about it.

Exit codes:
  0 it can be used (perhaps with warnings)   78 it cannot

Examples:
  etl validate etl.toml
  etl validate pipelines/orders.json --modules target/guests
      A single pipeline document, with its modules from elsewhere.
  etl validate etl.toml --json --deny-warnings
      For CI: warnings fail, the report is JSON on standard output.";

/// Check a configuration, and report everything that is wrong with it
#[derive(Debug, Args)]
#[command(after_help = VALIDATE_HELP)]
pub struct ValidateOptions {
    #[command(flatten)]
    pub configuration: ConfigurationOptions,

    /// Print the report as JSON on standard output
    #[arg(long)]
    pub json: bool,
}

const EXPLAIN_HELP: &str = "\
Without --record only the topic is looked at: conditions are shown as still to be decided. With it
the record goes through the modules for real, and every step is shown: what the module made of the
record, or why it did not see it.

Examples:
  etl explain etl.toml --topic iot.sensors.temperature
  etl explain etl.toml --topic iot.sensors.temperature --record one.ndjson
  head -1 in.ndjson | etl explain etl.toml --record -
      The topic is that of the record.";

/// Show which modules a record would pass, and the first reason why not the others
#[derive(Debug, Args)]
#[command(after_help = EXPLAIN_HELP)]
pub struct ExplainOptions {
    #[command(flatten)]
    pub configuration: ConfigurationOptions,

    /// The topic [default: that of the record]
    #[arg(long, value_name = "TOPIC", required_unless_present = "record")]
    pub topic: Option<String>,

    /// A file of record lines, or -: the first record is run through the modules
    #[arg(long, value_name = "FILE")]
    pub record: Option<String>,

    /// Print it as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum ModuleCommand {
    Inspect(InspectOptions),
    /// Make a key to sign modules with, and print its public half
    #[command(after_help = KEY_HELP)]
    Key(KeyOptions),
    /// Sign a module
    #[command(after_help = SIGN_HELP)]
    Sign(SignOptions),
    /// Say whether one of these keys has signed a module
    #[command(after_help = VERIFY_HELP)]
    Verify(VerifyOptions),
}

const KEY_HELP: &str = "\
The file is readable by its owner alone, and is never overwritten. Whoever has it can sign.

Examples:
  etl module key release.key
      The key for `trusted_keys` under `[security]` of every configuration that shall trust it.";

const SIGN_HELP: &str = "\
The signature (ed25519) becomes the last section of the file itself, so it goes wherever the module
goes. A signature that it had is replaced. The digest changes: pin that of the signed file.

Examples:
  etl module sign modules/enrich.wasm --key release.key
  etl module sign enrich.wasm --key release.key --out signed/enrich.wasm";

const VERIFY_HELP: &str = "\
Exit codes:
  0 one of the keys has signed it   1 none has, or it cannot be read

Examples:
  etl module verify modules/enrich.wasm --trusted $(cat release.pub)";

#[derive(Debug, Args)]
pub struct KeyOptions {
    /// Where the key is written
    pub file: PathBuf,
}

#[derive(Debug, Args)]
pub struct SignOptions {
    /// The WASM file
    pub file: PathBuf,

    /// The file of the key, as `etl module key` made it
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,

    /// Where the signed module is written [default: in the place of the other]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct VerifyOptions {
    /// The WASM file
    pub file: PathBuf,

    /// A public key, as 64 hexadecimal digits; may be given more than once
    #[arg(long, value_name = "KEY", required = true)]
    pub trusted: Vec<PublicKey>,
}

/// A public key.
#[derive(Debug, Clone)]
pub struct PublicKey(pub [u8; 32]);

impl std::str::FromStr for PublicKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let key = crate::signing::bytes_32(text);
        key.map(Self)
            .ok_or_else(|| "a public key has 64 hexadecimal digits".to_owned())
    }
}

const INSPECT_HELP: &str = "\
Exit codes:
  0 it can be used as a module   1 it cannot, or cannot be read

Examples:
  etl module inspect modules/message-validator.wasm
  etl module inspect modules/message-validator.wasm --json | jq -r .sha256
      The pin for `sha256` under [[modules]].";

/// Show what a WASM file is: ABI, imports, exports, memory, size, SHA-256, and what is wrong with it
#[derive(Debug, Args)]
#[command(after_help = INSPECT_HELP)]
pub struct InspectOptions {
    /// The WASM file
    pub file: PathBuf,

    /// Print it as JSON
    #[arg(long)]
    pub json: bool,
}
