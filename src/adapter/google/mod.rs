//! What the clients of Google Cloud share: credentials, and where an emulator takes the place of a service.

pub mod bus;
pub mod services;
pub mod token;

use google_cloud_auth::credentials::{CacheableResource, Credentials, CredentialsProvider, EntityTag};
use google_cloud_auth::errors::CredentialsError;
use http::header::AUTHORIZATION;
use http::{Extensions, HeaderMap, HeaderValue};

/// The credentials of whoever owns an emulator: every emulator of Google's lets this token do everything.
///
/// Only for an emulator: no service of Google's accepts it.
pub fn emulator_credentials() -> Credentials {
    Credentials::from(Owner { entity_tag: EntityTag::new() })
}

/// The credentials of the environment: a service account's on Google Cloud, `gcloud auth application-default login`'s on a
/// laptop, or the file that `GOOGLE_APPLICATION_CREDENTIALS` names. Nothing is asked of Google yet.
pub fn environment_credentials() -> Result<Credentials, google_cloud_auth::build_errors::Error> {
    google_cloud_auth::credentials::Builder::default().build()
}

#[derive(Debug)]
struct Owner {
    entity_tag: EntityTag,
}

impl CredentialsProvider for Owner {
    async fn headers(&self, known: Extensions) -> Result<CacheableResource<HeaderMap>, CredentialsError> {
        if known.get::<EntityTag>() == Some(&self.entity_tag) {
            return Ok(CacheableResource::NotModified);
        }
        let data = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static("Bearer owner"))]);
        Ok(CacheableResource::New { entity_tag: self.entity_tag.clone(), data })
    }

    async fn universe_domain(&self) -> Option<String> {
        None
    }
}
