//! Pub/Sub, on Google's own client.

pub mod admin;
pub mod publisher;
pub mod subscriber;

use google_cloud_auth::credentials::Credentials;

use super::google::{emulator_credentials, environment_credentials};

/// Where a project's Pub/Sub is, and as whom it is called.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Connection {
    /// The Google Cloud project.
    pub project: String,
    /// Where an emulator listens, as `127.0.0.1:8085`. It needs no credentials.
    pub emulator: Option<String>,
}

/// Pub/Sub could not be prepared for use.
#[derive(Debug, thiserror::Error)]
#[error("connect to Pub/Sub of project {project}: {why}")]
pub struct ConnectError {
    project: String,
    why: String,
}

impl Connection {
    fn endpoint(&self) -> String {
        match &self.emulator {
            Some(emulator) => format!("http://{emulator}"),
            None => "https://pubsub.googleapis.com".to_owned(),
        }
    }

    fn credentials(&self) -> Result<Credentials, ConnectError> {
        match &self.emulator {
            Some(_) => Ok(emulator_credentials()),
            None => environment_credentials().map_err(|error| self.failed(&error)),
        }
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> ConnectError {
        ConnectError { project: self.project.clone(), why: error.to_string() }
    }
}
