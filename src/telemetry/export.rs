//! The way to an OpenTelemetry collector: OTLP, protobuf over HTTP.
//!
//! A collector that is away costs a bounded queue and nothing else: its calls are made by threads of the exporter, each with
//! a time limit, and at the end of the service what is left has two seconds.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use opentelemetry::KeyValue;
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{
    ExporterBuildError, MetricExporter, Protocol, SpanExporter, WithExportConfig, WithHttpConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::PeriodicReader;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SpanProcessor as _};

use super::Telemetry;
use super::metrics::Metrics;
use super::span::Spans;

/// How long a call of a collector may take.
const CALL_MAX: Duration = Duration::from_secs(5);
/// What is read of a collector's answer; it says what it did not take, in a few words.
const ANSWER_MAX: usize = 64 * 1024;
/// Spans that may wait: some minutes of the busiest hour.
const QUEUE_MAX: usize = 2048;
/// How long spans wait for company.
const SPANS_EVERY: Duration = Duration::from_secs(2);
/// How long what is left has when the service ends.
pub const FLUSH: Duration = Duration::from_secs(2);

/// What leaves, and where to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// As which service.
    pub service: String,
    /// What else is said of this process.
    pub about: Vec<(&'static str, String)>,
    /// Where spans are posted; they go nowhere without.
    pub spans_to: Option<String>,
    /// Where metrics are posted; they can only be read without.
    pub metrics_to: Option<String>,
    /// How often metrics are posted.
    pub metrics_every: Duration,
}

/// An exporter cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// As its settings are.
    #[error("OTLP: {0}")]
    Settings(#[from] ExporterBuildError),
    /// TLS cannot be set up.
    #[error("set up HTTP: {0}")]
    Client(#[from] reqwest::Error),
}

/// Sets it up. Nothing is sent yet. Called within the runtime on which calls are to be made.
///
/// # Errors
/// If the settings, or the variables that the exporter reads itself (headers, compression), make no sense.
pub fn start(settings: &Settings) -> Result<Telemetry, Error> {
    let about = settings.about.iter().map(|(key, value)| KeyValue::new(*key, value.clone()));
    let resource = Resource::builder().with_service_name(settings.service.clone()).with_attributes(about).build();
    let client = Client::new()?;
    let spans = match &settings.spans_to {
        None => Spans::default(),
        Some(url) => {
            let exporter = SpanExporter::builder()
                .with_http()
                .with_http_client(client.clone())
                .with_protocol(Protocol::HttpBinary)
                .with_endpoint(url)
                .with_timeout(CALL_MAX)
                .build()?;
            let config =
                BatchConfigBuilder::default().with_max_queue_size(QUEUE_MAX).with_scheduled_delay(SPANS_EVERY).build();
            let mut processor = BatchSpanProcessor::builder(exporter).with_batch_config(config).build();
            processor.set_resource(&resource);
            Spans::to(processor)
        }
    };
    let reader = match &settings.metrics_to {
        None => None,
        Some(url) => {
            let exporter = MetricExporter::builder()
                .with_http()
                .with_http_client(client)
                .with_protocol(Protocol::HttpBinary)
                .with_endpoint(url)
                .with_timeout(CALL_MAX)
                .build()?;
            Some(PeriodicReader::builder(exporter).with_interval(settings.metrics_every).build())
        }
    };
    Ok(Telemetry { metrics: Metrics::new(resource, reader).into(), spans })
}

impl Telemetry {
    /// Sends what has not been sent, for at most [`FLUSH`].
    pub async fn end(self) {
        let flush = tokio::task::spawn_blocking(move || {
            // A half for each, side by side would need another thread.
            let spans = self.spans.shutdown(FLUSH / 2);
            (spans, self.metrics.shutdown(FLUSH / 2))
        });
        match tokio::time::timeout(FLUSH, flush).await {
            Ok(Ok((Ok(()), Ok(())))) => {}
            Ok(Ok((spans, metrics))) => {
                let why = spans.err().or(metrics.err()).map(|error| error.to_string()).unwrap_or_default();
                tracing::warn!("the collector was not told the last of it: {why}");
            }
            Ok(Err(_)) | Err(_) => tracing::warn!("the collector was not told the last of it in time"),
        }
    }
}

/// Our HTTP client on our runtime, for the exporter's threads, which have none.
#[derive(Clone, Debug)]
struct Client {
    http: reqwest::Client,
    runtime: tokio::runtime::Handle,
}

impl Client {
    fn new() -> Result<Self, reqwest::Error> {
        let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy();
        Ok(Self { http: builder.timeout(CALL_MAX).build()?, runtime: tokio::runtime::Handle::current() })
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (head, body) = request.into_parts();
        let http = self.http.clone();
        let call = self.runtime.spawn(async move {
            let url = reqwest::Url::parse(&head.uri.to_string())?;
            let request = http.request(head.method, url).headers(head.headers).body(body);
            let mut answer = request.send().await.map_err(reqwest::Error::without_url)?;
            let mut said = Vec::new();
            while let Some(chunk) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
                said.extend_from_slice(&chunk);
                if said.len() > ANSWER_MAX {
                    return Err(HttpError::from("the collector's answer has no end"));
                }
            }
            let mut response = Response::builder().status(answer.status());
            if let Some(headers) = response.headers_mut() {
                headers.clone_from(answer.headers());
            }
            Ok(response.body(Bytes::from(said))?)
        });
        call.await?
    }
}
