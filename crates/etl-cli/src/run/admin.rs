//! `--admin ADDR`: the API for operators, and what it borrows from the program.

use std::net::SocketAddr;
use std::sync::Arc;

use etl_admin::secrets::Key;
use etl_admin::{Admin, AdminOptions, Archive, Asked, DeadLetters, Host, Process, TlsFiles};
use etl_broker_adapter::line;
use etl_config::{ConfigPath, LoadOptions, Loaded, Report, SecretError, SecretSettings};
use etl_orchestrator::Orchestrator;

use super::letters::Letters;
use super::membership::Membership;
use super::metrics::{self, Recorder, Watched};
use crate::arguments::RunOptions;
use crate::configuration;
use crate::exit::Exit;
use crate::explain;
use crate::output::tell;
use crate::secret;

/// The folder of generations in the API's.
pub const GENERATIONS: &str = "generations";

struct Program {
    options: RunOptions,
    orchestrator: Arc<Orchestrator>,
    recorder: Recorder,
    watched: Watched,
    letters: Option<Letters>,
}

impl Program {
    /// Something that is wrong with the configuration as a whole.
    fn refusal(&self, what: &str, hint: String) -> Report {
        let generation = self.orchestrator.generation();
        let problem = |loaded: &Loaded| {
            let root = ConfigPath::root();
            loaded.problem(&root, what, Some(hint), None)
        };
        Report::new(self.orchestrator.read_configuration(generation, problem))
    }

    /// Where secrets are, as the configuration in force says it.
    fn secrets(&self) -> SecretSettings {
        let generation = self.orchestrator.generation();
        let read = |loaded: &Loaded| loaded.config.secrets.clone();
        let settings = self.orchestrator.read_configuration(generation, read);
        // None where the configuration has changed in this very moment, to one that is read here.
        let latest = || {
            let generation = self.orchestrator.generation();
            self.orchestrator.read_configuration(generation, read)
        };
        let ones_own = || secret::settings_of_ones_own(&self.options.configuration.secrets);
        settings.or_else(latest).unwrap_or_else(ones_own)
    }
}

impl Host for Program {
    fn load(&self) -> Result<Loaded, Report> {
        if Membership::is_asked_for(&self.options) {
            let what = "the configuration comes from the fleet, which is followed all the time";
            let hint = "`etl push` gives the fleet another one".to_owned();
            return Err(self.refusal(what, hint));
        }
        configuration::load(&self.options.configuration)
    }

    fn load_options(&self) -> LoadOptions {
        // Who sends a document says what the engine does, and not what is read and run on this machine.
        configuration::options(&self.options.configuration).secret_settings(self.secrets())
    }

    fn key(&self) -> Result<Option<Key>, SecretError> {
        secret::keeper(&self.options.configuration.secrets).key(&self.secrets())
    }

    fn metrics(&self) -> String {
        self.watched.publish();
        metrics::render(&self.recorder, &self.orchestrator)
    }

    fn waiting(&self) -> Vec<String> {
        self.watched.waiting()
    }

    fn dead_letters(&self) -> Option<&dyn DeadLetters> {
        self.letters
            .as_ref()
            .map(|letters| letters as &dyn DeadLetters)
    }

    fn process(&self) -> Process {
        metrics::process_figures()
    }

    fn explain(&self, asked: Asked<'_>) -> Result<String, String> {
        let (topic, record) = match asked {
            Asked::Topic(topic) => (Arc::from(topic), None),
            Asked::Record(bytes) => {
                let record = line::decode(&bytes::Bytes::copy_from_slice(bytes), 0)
                    .map_err(|error| error.to_string())?;
                (record.topic.clone(), Some(Arc::new(record)))
            }
        };
        explain::document(&self.orchestrator, &topic, record).map_err(|error| error.to_string())
    }
}

/// Opens what is kept of earlier generations, where the API is served and any are to be kept.
pub fn archive(options: &RunOptions, loaded: &Loaded) -> Result<Option<Arc<Archive>>, Exit> {
    let given = &options.admin_options;
    if options.admin.is_none() || given.keep_generations == 0 {
        return Ok(None);
    }
    let keeper = secret::keeper(&options.configuration.secrets);
    let key = keeper.key(&loaded.config.secrets).map_err(Exit::failed)?;
    let folder = given.folder.admin_dir.join(GENERATIONS);
    let archive = Archive::open(&folder, key, given.keep_generations.into());
    let archive = archive.map_err(|error| {
        Exit::failed(format_args!(
            "cannot serve the API: {error}\n  --keep-generations 0 does without those that are kept"
        ))
    })?;
    Ok(Some(Arc::new(archive)))
}

/// Listens and serves until the runtime ends; says where. Answers what ends it in good order. On a tokio runtime.
pub async fn serve(
    address: SocketAddr,
    (recorder, watched): (Recorder, Watched),
    orchestrator: Arc<Orchestrator>,
    options: &RunOptions,
    archive: Option<Arc<Archive>>,
) -> Result<impl FnOnce() + Send + use<>, Exit> {
    let given = &options.admin_options;
    let mut admin_options = AdminOptions::new(address, &given.folder.admin_dir);
    admin_options.allow_plain = given.admin_without_tls;
    admin_options.archive = archive;
    if let (Some(certificate), Some(key)) = (&given.admin_tls_cert, &given.admin_tls_key) {
        admin_options.tls = Some(TlsFiles {
            certificate: certificate.clone(),
            key: key.clone(),
            client_authorities: given.admin_client_ca.clone(),
        });
    }
    let has_tls = admin_options.tls.is_some();
    let program = Program {
        letters: Letters::of(options, &orchestrator),
        options: options.clone(),
        orchestrator: orchestrator.clone(),
        recorder,
        watched,
    };
    let admin = Admin::bind(admin_options, orchestrator, program)
        .await
        .map_err(|error| {
            let hint = if has_tls || address.ip().is_loopback() || given.admin_without_tls {
                ""
            } else {
                "; give --admin-tls-cert and --admin-tls-key, or --admin-without-tls where the way is safe"
            };
            Exit::failed(format_args!("cannot serve the API: {error}{hint}"))
        })?;
    let url = admin.url();
    if options.json {
        tell!("{}", serde_json::json!({ "admin": url }));
    } else {
        tell!("etl: API at {url}/api/v1");
        tell!("etl: console at {url}/");
        if admin.is_closed_to_all() {
            let folder = given.folder.admin_dir.display();
            tell!(
                "etl: nobody can use it yet; `etl admin token create --admin-dir {folder} --role admin --name NAME` makes a token"
            );
        }
    }
    let close = admin.closer();
    tokio::spawn(admin.run());
    Ok(close)
}
