//! Opens what the configuration names: the embedded store, or a Google Cloud project.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};

use super::{Common, Fault};
use crate::adapter::bigquery::{self, Bigquery};
use crate::adapter::call;
use crate::adapter::embedded::{Durability, Embedded, FILE, OpenError};
use crate::adapter::firestore::{Firestore, Settings};
use crate::adapter::google::bus::GoogleBus;
use crate::adapter::google::services::Services;
use crate::adapter::pubsub::Connection;
use crate::adapter::pubsub::publisher::Publisher;
use crate::adapter::service;
use crate::configuration::{self, Backend, Configuration};
use crate::domain::id::{CheckId, NodeId, PipelineId};
use crate::engine::role::{self, RoleError};
use crate::engine::{self, Engine};
use crate::pipeline::Declarations;
use crate::port::{Answer, Bus, Reported, Row, Store, Warehouse};
use crate::wire::report;

/// What is going to be done with the store.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing is changed.
    Read,
    /// Requests are committed to a store that is there.
    Write,
}

/// A store, a bus and a warehouse that belong together.
pub struct Opened {
    pub store: Arc<dyn Store>,
    pub bus: Arc<dyn Bus>,
    pub warehouse: Arc<dyn Warehouse>,
}

/// A Google Cloud project with everything that serves it.
pub struct Google {
    pub connection: Connection,
    pub firestore: Arc<Firestore>,
    pub publisher: Arc<Publisher>,
    pub bus: Arc<GoogleBus>,
    pub warehouse: Arc<dyn Warehouse>,
}

/// An engine at the store that is asked about, which runs no loop. Of a running service it only reads.
pub async fn engine(common: &Common, declarations: Declarations, access: Access) -> Result<Engine, Fault> {
    let declarations = Arc::new(declarations);
    let Opened { store, bus, warehouse } = open(common, &declarations, access).await?;
    Ok(Engine::new(declarations, store, bus, warehouse, common.clock(), engine::Settings::default()))
}

/// Opens the service that is asked, or the store that the configuration names, and what belongs to it.
pub async fn open(common: &Common, declarations: &Declarations, access: Access) -> Result<Opened, Fault> {
    if let Some(service) = &common.served {
        let (store, bus, warehouse) = service::ports(service);
        let opened = Opened { store, bus, warehouse };
        return if common.shadow { in_the_shadow(opened, declarations).await } else { Ok(opened) };
    }
    let configuration = common.configuration()?;
    let opened = at_store(&configuration, declarations, access).await?;
    if configuration.shadow { in_the_shadow(opened, declarations).await } else { Ok(opened) }
}

/// The same, unless it was decided for real what is kept there: no answer about that is one about the shadow.
async fn in_the_shadow(opened: Opened, declarations: &Declarations) -> Result<Opened, Fault> {
    let is_real = role::is_real(&*opened.store, declarations.pipelines.keys()).await.map_err(Fault::unusable)?;
    if is_real { Err(Fault::usage(anyhow::anyhow!("--shadow: {}", RoleError::Real))) } else { Ok(opened) }
}

async fn at_store(configuration: &Configuration, declarations: &Declarations, access: Access) -> Result<Opened, Fault> {
    match configuration.backend {
        Backend::Embedded => {
            let opened = match access {
                Access::Read => Embedded::open_read_only(&configuration.data),
                Access::Write => Embedded::open_existing(&configuration.data, Durability::Full),
            };
            let embedded = Arc::new(opened.map_err(|error| no_store(configuration, &error))?);
            let bus = Arc::new(embedded.bus(Arc::new(declarations.topology.clone())));
            Ok(Opened { store: embedded.clone(), bus, warehouse: embedded })
        }
        Backend::Google => {
            // Whoever asks, or writes a request, calls no service, and needs no identity for it.
            let google = google(configuration, declarations, no_services()?).await?;
            Ok(Opened { store: google.firestore, bus: google.bus, warehouse: google.warehouse })
        }
    }
}

/// The services of the configuration, each with its identity.
pub fn services(configuration: &Configuration) -> Result<Services, Fault> {
    Services::new(&configuration.services).map_err(Fault::usage)
}

/// No service at all: whatever is sent to one waits.
pub fn no_services() -> Result<Services, Fault> {
    Services::new(&BTreeMap::new()).map_err(Fault::unusable)
}

/// The file that the environment names for credentials, if it is the key of a service account.
pub fn service_account_key() -> Option<String> {
    let file = std::env::var("GOOGLE_APPLICATION_CREDENTIALS").ok()?;
    let text = std::fs::read_to_string(&file).ok()?;
    let said: serde_json::Value = serde_json::from_str(&text).ok()?;
    (said["type"] == "service_account").then_some(file)
}

/// Connects to the configured project.
pub async fn google(
    configuration: &Configuration,
    declarations: &Declarations,
    services: Services,
) -> Result<Google, Fault> {
    let project = project(configuration)?;
    let emulators = Emulators::find().map_err(|error| Fault::usage(anyhow::anyhow!(error)))?;
    let locks = declarations.pipelines.iter().map(|(id, pipeline)| (id.clone(), pipeline.classes.clone())).collect();
    let settings = Settings {
        database: configuration.google.database.clone(),
        producers_database: configuration.google.producers_database.clone(),
        prefix: configuration.google.prefix.clone(),
        keep: span("keep", &configuration.keep)?,
        emulator: emulators.firestore.clone(),
        locks,
        ..Settings::new(project.clone())
    };
    let connection = Connection { project: project.clone(), emulator: emulators.pubsub.clone() };
    let firestore = Arc::new(Firestore::connect(settings).await.map_err(Fault::unusable)?);
    let publisher = Arc::new(Publisher::connect(connection.clone()).await.map_err(Fault::unusable)?);
    let topology = Arc::new(declarations.topology.clone());
    let bus = Arc::new(GoogleBus::new(topology, publisher.clone(), services, firestore.clone()));
    let warehouse = warehouse(configuration, project, &emulators, declarations).await?;
    Ok(Google { connection, firestore, publisher, bus, warehouse })
}

async fn warehouse(
    configuration: &Configuration,
    project: String,
    emulators: &Emulators,
    declarations: &Declarations,
) -> Result<Arc<dyn Warehouse>, Fault> {
    if !configuration.google.bigquery {
        return Ok(Arc::new(NoWarehouse));
    }
    if emulators.pubsub.is_some() && emulators.bigquery.is_none() {
        // Rows of a trial run do not belong among those of the real one.
        tracing::warn!(
            "BigQuery is left alone: the others are emulators, and BIGQUERY_EMULATOR_HOST names none for it"
        );
        return Ok(Arc::new(NoWarehouse));
    }
    if configuration.shadow {
        // What others run has rows of theirs; the shadow's history is its journal.
        let asked = bigquery(configuration, project, emulators, declarations).await?;
        return Ok(Arc::new(Unwritten(asked)));
    }
    Ok(Arc::new(bigquery(configuration, project, emulators, declarations).await?))
}

/// Connects to the project's BigQuery.
pub async fn bigquery(
    configuration: &Configuration,
    project: String,
    emulators: &Emulators,
    declarations: &Declarations,
) -> Result<Bigquery, Fault> {
    let settings = bigquery::Settings {
        location: configuration.google.location.clone(),
        emulator: emulators.bigquery.clone(),
        ..bigquery::Settings::new(project, &declarations.pipelines)
    };
    Bigquery::connect(settings).await.map_err(Fault::unusable)
}

/// The emulators that the environment names.
pub struct Emulators {
    pub pubsub: Option<String>,
    pub firestore: Option<String>,
    pub bigquery: Option<String>,
}

impl Emulators {
    /// Half a project in emulators is a mistake: what the other half holds would be real.
    pub fn find() -> Result<Self, String> {
        let host = |name: &str| std::env::var(name).ok().filter(|host| !host.is_empty());
        let found = Self {
            pubsub: host("PUBSUB_EMULATOR_HOST"),
            firestore: host("FIRESTORE_EMULATOR_HOST"),
            bigquery: host("BIGQUERY_EMULATOR_HOST"),
        };
        let named = [
            ("PUBSUB_EMULATOR_HOST", &found.pubsub),
            ("FIRESTORE_EMULATOR_HOST", &found.firestore),
            ("BIGQUERY_EMULATOR_HOST", &found.bigquery),
        ];
        for (name, host) in named {
            if let Some(host) = host
                && host.parse::<http::uri::Authority>().ok().is_none_or(|address| address.port().is_none())
            {
                return Err(format!("{name} is `{host}`: write HOST:PORT, as 127.0.0.1:8681"));
            }
            let url = host.as_ref().and_then(|host| reqwest::Url::parse(&format!("http://{host}")).ok());
            if url.is_some_and(|url| !call::is_loopback(&url)) {
                return Err(format!(
                    "{name} is `{}`: an emulator is spoken to in the clear and lets in everybody, so it has to be on loopback",
                    host.as_deref().unwrap_or_default()
                ));
            }
        }
        match (&found.pubsub, &found.firestore) {
            (Some(_), None) => {
                Err("PUBSUB_EMULATOR_HOST is set and FIRESTORE_EMULATOR_HOST is not: set both or neither".to_owned())
            }
            (None, Some(_)) => {
                Err("FIRESTORE_EMULATOR_HOST is set and PUBSUB_EMULATOR_HOST is not: set both or neither".to_owned())
            }
            (None, None) if found.bigquery.is_some() => {
                Err("BIGQUERY_EMULATOR_HOST is set and the others are not: set all of them or none".to_owned())
            }
            _ => Ok(found),
        }
    }
}

/// The configured project.
pub fn project(configuration: &Configuration) -> Result<String, Fault> {
    let project = configuration.google.project.clone().ok_or_else(|| {
        Fault::usage(anyhow::anyhow!(
            "which Google Cloud project? say --project P, GOOGLE_CLOUD_PROJECT, or google.project in tipoff.yaml"
        ))
    })?;
    // It becomes a part of every name and URL. A colon and dots are in projects that belong to a domain.
    let is_id = |byte: u8| byte.is_ascii_alphanumeric() || b"-:._".contains(&byte);
    if project.is_empty() || !project.bytes().all(is_id) {
        return Err(Fault::usage(anyhow::anyhow!("`{project}` is not the id of a Google Cloud project")));
    }
    Ok(project)
}

/// A span of the configuration.
pub fn span(name: &str, text: &str) -> Result<SignedDuration, Fault> {
    configuration::span(text).map_err(|error| Fault::usage(anyhow::anyhow!("{name}: {error}")))
}

/// The store cannot be opened, and what would help.
pub fn no_store(configuration: &Configuration, error: &OpenError) -> Fault {
    let data = configuration.data.display();
    let is_there = configuration.data.join(FILE).exists();
    let advice = match error {
        // It says so itself.
        OpenError::Newer { .. } | OpenError::Layout { .. } | OpenError::Replaced(_) | OpenError::InUse(_) => {
            String::new()
        }
        OpenError::Copy { source, .. } => format!(": {source}"),
        OpenError::NotOurs(..) => "; --data names another".to_owned(),
        OpenError::Sqlite(..) | OpenError::Directory(..) | OpenError::Thread(_) if is_there => {
            let why = std::error::Error::source(error).map(|why| format!(": {why}")).unwrap_or_default();
            format!("{why}; it is there, and cannot be read: give it to whoever runs this, or restore it from a copy")
        }
        OpenError::Empty(_) | OpenError::Sqlite(..) | OpenError::Directory(..) | OpenError::Thread(_) => {
            format!("; `tipoff serve --data {data}` makes one, --data names another")
        }
    };
    Fault::unusable(anyhow::anyhow!("open the store in {data}: {error}{advice}"))
}

/// A warehouse that is asked and not written to.
struct Unwritten(Bigquery);

#[async_trait]
impl Warehouse for Unwritten {
    async fn coverage(&self, pipeline: &PipelineId, node: &NodeId, date: Date, at: Timestamp) -> Answer {
        self.0.coverage(pipeline, node, date, at).await
    }

    async fn check(&self, pipeline: &PipelineId, node: &NodeId, check: &CheckId, date: Date, at: Timestamp) -> Answer {
        self.0.check(pipeline, node, check, date, at).await
    }

    async fn report(&self, pipeline: &PipelineId, report: report::Kind, date: Date, at: Timestamp) -> Reported {
        self.0.report(pipeline, report, date, at).await
    }

    async fn append(&self, _table: &str, _rows: Vec<(String, Row)>) -> Result<(), String> {
        Ok(())
    }
}

/// Stands in where BigQuery is switched off: nothing is kept there, so messages alone tell what is done.
struct NoWarehouse;

#[async_trait]
impl Warehouse for NoWarehouse {
    async fn coverage(&self, _pipeline: &PipelineId, _node: &NodeId, _date: Date, _at: Timestamp) -> Answer {
        Answer::NotKept
    }

    async fn check(&self, _: &PipelineId, _: &NodeId, _: &CheckId, _: Date, _: Timestamp) -> Answer {
        Answer::NotKept
    }

    async fn report(&self, _pipeline: &PipelineId, _report: report::Kind, _date: Date, _at: Timestamp) -> Reported {
        Reported::NotKept
    }

    async fn append(&self, _table: &str, _rows: Vec<(String, Row)>) -> Result<(), String> {
        Ok(())
    }
}
