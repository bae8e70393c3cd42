//! A URL that takes a notice as JSON, by `schemas/notice.json`.
//!
//! The headers are those of the Standard Webhooks: `webhook-id` names the notice, and is the same however often it is sent;
//! where there is a key, `webhook-signature` is `v1,` and the base64 of the HMAC-SHA256 of `ID.TIMESTAMP.BODY`.

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::json;
use sha2::Sha256;

use super::post::Poster;
use crate::clock::Clock;
use crate::configuration::Secret;
use crate::domain::notify::{Notice, Sent};
use crate::port::Channel;

/// What a body calls its form.
const SCHEMA: &str = "tipoff-notice/1";
const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
/// Begins a key that is written in base64, as the Standard Webhooks have it. Any other is taken as it is.
const KEY_PREFIX: &str = "whsec_";

/// Posts to one URL.
pub(super) struct Webhook {
    poster: Poster,
    token: Option<HeaderValue>,
    key: Option<Hmac<Sha256>>,
}

impl Webhook {
    pub fn new(url: &Secret, token: Option<Secret>, signing: Option<Secret>) -> Result<Self, String> {
        let others: Vec<&str> = [&token, &signing].into_iter().flatten().map(Secret::reveal).collect();
        let poster = Poster::new(url, token.is_some(), &others)?;
        let token = token.map(|token| {
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.reveal()))
                .map_err(|_| "its token has characters that no header may have".to_owned())?;
            value.set_sensitive(true);
            Ok::<_, String>(value)
        });
        let key = signing.map(|signing| {
            let key = match signing.reveal().strip_prefix(KEY_PREFIX) {
                Some(encoded) => STANDARD
                    .decode(encoded)
                    .map_err(|_| format!("what follows {KEY_PREFIX} in its key is no base64"))?,
                None => signing.reveal().as_bytes().to_vec(),
            };
            Hmac::new_from_slice(&key).map_err(|error| error.to_string())
        });
        Ok(Self { poster, token: token.transpose()?, key: key.transpose()? })
    }

    fn headers(&self, notice: &Notice, body: &[u8]) -> Result<HeaderMap, String> {
        let value = |text: String| HeaderValue::try_from(text).map_err(|error| error.to_string());
        let now = Clock::System.now().as_second();
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ID, value(notice.id.clone())?);
        headers.insert(TIMESTAMP, value(now.to_string())?);
        if let Some(key) = &self.key {
            let mut mac = key.clone();
            mac.update(format!("{}.{now}.", notice.id).as_bytes());
            mac.update(body);
            headers.insert(SIGNATURE, value(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))?);
        }
        headers.extend(self.token.clone().map(|token| (AUTHORIZATION, token)));
        Ok(headers)
    }
}

#[async_trait]
impl Channel for Webhook {
    async fn send(&self, notice: &Notice) -> Sent {
        let mut body = json!(notice);
        body["schema"] = json!(SCHEMA);
        let body = body.to_string().into_bytes();
        match self.headers(notice, &body) {
            Ok(headers) => self.poster.post(headers, body).await,
            Err(error) => Sent::Refused(error),
        }
    }

    async fn reach(&self) -> Result<(), String> {
        self.poster.reach().await
    }
}
