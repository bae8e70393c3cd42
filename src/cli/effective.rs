//! What is in force: where each part of the configuration comes from, in what it differs from what is compiled in, and one
//! digest of all of it, by which two processes, or yesterday and today, can be compared.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Common, Fault};
use crate::configuration::{self, Configuration};
use crate::diagnostic;
use crate::pipeline::{self, difference::differences};

/// Differences that the log shows. Whoever has more has another pipeline, and reads them with `tipoff config`.
const LOGGED_MAX: usize = 40;

/// Settings in which replicas on one store must not differ: what is sent, to whom, and who is told. In the others they may:
/// where each listens, by which file it knows a token, where its collector is.
const DECIDING: [&str; 5] = ["shadow", "send", "keep", "services", "alerts"];

/// The configuration in force. It names keys and shows no value, so no secret either.
#[derive(Clone, Debug, Serialize)]
pub struct Effective {
    /// Of both declarations as they are written, and of the settings without their secrets.
    pub digest: String,
    /// Of what replicas on one store have to agree about: both declarations, and [`DECIDING`] of the settings.
    pub decides: String,
    /// The digest of the pipelines alone, which every decision records.
    pub revision: String,
    /// The file of each part.
    pub sources: BTreeMap<&'static str, String>,
    /// Keys that are not as they are compiled in, or by default.
    pub differences: Vec<String>,
}

impl Effective {
    /// What is in force under `configuration`.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn of(common: &Common, configuration: &Configuration) -> Result<Self, Fault> {
        let (topics, pipelines) = common.texts()?;
        let (settings, _) = super::text(common.config.as_ref(), configuration::FILE, "")?;
        let shown = configuration.shown();
        let deciding: BTreeMap<&str, &Value> = DECIDING.into_iter().map(|key| (key, &shown[key])).collect();
        let digest_with = |settings: &str| digest([topics.1.as_str(), pipelines.1.as_str(), settings]);
        let mut found = Vec::new();
        for (name, built_in, (file, text)) in
            [("topics.yaml", pipeline::TOPICS, &topics), ("pipeline.yaml", pipeline::PIPELINE, &pipelines)]
        {
            if text != built_in {
                let here: Value = diagnostic::parse(file, text).map_err(Fault::usage)?;
                let default: Value = diagnostic::parse(name, built_in).map_err(Fault::usage)?;
                found.extend(differences(name, &default, &here).into_iter().map(|difference| difference.path));
            }
        }
        let settings_of = differences("settings", &Configuration::default().shown(), &shown);
        found.extend(settings_of.into_iter().map(|difference| difference.path));
        // A map may keep its keys in the order of their writing.
        found.sort();
        Ok(Self {
            digest: digest_with(&shown.to_string()),
            decides: digest_with(&json!(deciding).to_string()),
            revision: format!("{:016x}", pipeline::revision(&pipelines.1)),
            sources: BTreeMap::from([
                ("topics.yaml", topics.0),
                ("pipeline.yaml", pipelines.0),
                ("settings", settings),
            ]),
            differences: found,
        })
    }

    /// Tells it to the log.
    pub fn log(&self) {
        let sources: Vec<String> = self.sources.iter().map(|(part, file)| format!("{part} from {file}")).collect();
        let mut differences = self.differences.iter().take(LOGGED_MAX).cloned().collect::<Vec<_>>().join(", ");
        if self.differences.len() > LOGGED_MAX {
            differences += &format!(" and {} more; see `tipoff config`", self.differences.len() - LOGGED_MAX);
        }
        tracing::info!(
            digest = self.digest,
            revision = self.revision,
            sources = sources.join(", "),
            differences = if differences.is_empty() { "none" } else { &differences },
            "the configuration in force"
        );
    }
}

/// The first 8 bytes of a digest of the parts, in which no part can pass for another's end.
fn digest(parts: [&str; 3]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part.len().to_le_bytes());
        digest.update(part);
    }
    digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
