//! Services that are called directly, with an identity token where they want one.

use std::collections::BTreeMap;
use std::time::Duration;

use google_cloud_auth::credentials::idtoken::{Builder, IDTokenCredentials};
use reqwest::{Client, Url};

use crate::adapter::call::{at_path, chain, client, is_loopback, json_headers, understood};
use crate::adapter::egress;
use crate::configuration::{Identity, Service};
use crate::port::BusError;

/// Pub/Sub's longest push, which is what these services are built for; Phase 4 works inside the request.
const CALL_MAX: Duration = Duration::from_secs(600);
/// How long the token of a call may take. It comes from the metadata server, or from a cache.
const TOKEN_MAX: Duration = Duration::from_secs(10);

/// The services of the configuration.
#[derive(Debug)]
pub struct Services {
    client: Client,
    services: BTreeMap<String, Called>,
}

#[derive(Debug)]
struct Called {
    base: Url,
    identity: Option<IDTokenCredentials>,
}

/// A service is configured in a way that cannot work.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Not a URL that can be called.
    #[error("services.{service}.url: {why}")]
    Url {
        /// Which service.
        service: String,
        /// What is wrong.
        why: String,
    },
    /// No identity can be had.
    #[error("services.{service}.identity: no identity token can be made for {audience}: {why}")]
    Identity {
        /// Which service.
        service: String,
        /// For whom.
        audience: String,
        /// What is wrong.
        why: String,
    },
    /// TLS cannot be set up.
    #[error("set up HTTP: {0}")]
    Client(#[from] reqwest::Error),
}

/// Where a service is.
fn base(name: &str, service: &Service) -> Result<Url, ServiceError> {
    let wrong = |why: String| ServiceError::Url { service: name.to_owned(), why };
    let base = Url::parse(&service.url).map_err(|error| wrong(error.to_string()))?;
    if !matches!(base.scheme(), "http" | "https") {
        return Err(wrong("only http and https are spoken".to_owned()));
    }
    egress::declared(&base).map_err(|refused| wrong(refused.to_string()))?;
    if service.identity == Identity::Oidc && base.scheme() != "https" && !is_loopback(&base) {
        return Err(wrong("an identity token goes over https only".to_owned()));
    }
    Ok(base)
}

impl Services {
    /// Whether every service may be called where it is said to be, on whatever backend. No identity is made.
    ///
    /// # Errors
    /// The first that may not.
    pub fn check(configured: &BTreeMap<String, Service>) -> Result<(), ServiceError> {
        configured.iter().try_for_each(|(name, service)| base(name, service).map(drop))
    }

    /// Prepares calls of the configured services. Nothing is asked of anybody yet.
    pub fn new(configured: &BTreeMap<String, Service>) -> Result<Self, ServiceError> {
        let mut services = BTreeMap::new();
        for (name, service) in configured {
            let base = base(name, service)?;
            let identity = match service.identity {
                Identity::None => None,
                Identity::Oidc => {
                    let audience = service.audience.clone().unwrap_or_else(|| base.origin().ascii_serialization());
                    let built = Builder::new(audience.clone()).build();
                    let failed = |why: String| ServiceError::Identity { service: name.clone(), audience, why };
                    Some(built.map_err(|error| failed(error.to_string()))?)
                }
            };
            services.insert(name.clone(), Called { base, identity });
        }
        Ok(Self { client: client()?, services })
    }

    /// Calls `path` of `service`. `Ok` says that the call was taken, not that the work is done.
    pub async fn call(
        &self,
        service: &str,
        path: &str,
        body: Vec<u8>,
        attributes: &BTreeMap<String, String>,
    ) -> Result<(), BusError> {
        let Some(called) = self.services.get(service) else {
            let why = format!("{service}: no URL is configured; say services.{service}.url in tipoff.yaml");
            return Err(BusError::Dead(why));
        };
        let headers = json_headers(attributes.iter().map(|(name, value)| (name.as_str(), value)));
        let mut request = self.client.post(at_path(&called.base, path)).timeout(CALL_MAX).headers(headers).body(body);
        if let Some(identity) = &called.identity {
            // Never without: a service that lets strangers in would not say that we came as one.
            let token = tokio::time::timeout(TOKEN_MAX, identity.id_token()).await;
            let token = token.map_err(|_| BusError::Unavailable("no identity token in time".to_owned()))?;
            let token = token.map_err(|error| BusError::Unavailable(format!("no identity token: {error}")))?;
            request = request.bearer_auth(token);
        }
        let response = request.send().await.map_err(|error| BusError::Unavailable(chain(&error.without_url())))?;
        understood(response).await
    }
}
