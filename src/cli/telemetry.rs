//! Where what the service tells of itself goes: tipoff.yaml, and over it the variables that OpenTelemetry has for every
//! program. The exporter itself reads `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_RESOURCE_ATTRIBUTES` and the sizes of batches.

use std::time::Duration;

use super::effective::Effective;
use super::{Fault, backend};
use crate::configuration::Configuration;
use crate::telemetry::Telemetry;
use crate::telemetry::export::{self, Settings};

/// The source that this was built from, where whoever built it said so.
pub const SOURCE: &str = match option_env!("TIPOFF_SOURCE") {
    Some(source) => source,
    None => "unknown",
};

/// Sets it up, within the runtime.
pub fn start(configuration: &Configuration, effective: &Effective) -> Result<Telemetry, Fault> {
    let settings = settings(configuration, |name| std::env::var(name).ok())?;
    for (what, to) in [("spans", &settings.spans_to), ("metrics", &settings.metrics_to)] {
        if let Some(to) = to {
            tracing::info!(to = crate::configuration::shown_url(to), "{what} leave over OTLP");
        }
    }
    let about = vec![
        ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("service.instance.id", uuid::Uuid::new_v4().to_string()),
        ("tipoff.source", SOURCE.to_owned()),
        ("tipoff.revision", effective.revision.clone()),
        ("tipoff.configuration", effective.digest.clone()),
    ];
    let telemetry = export::start(&Settings { about, ..settings }).map_err(Fault::usage)?;
    told(&telemetry, effective, 1.0);
    Ok(telemetry)
}

/// Says what decides from now on, in place of what decided before.
pub fn tell(telemetry: &Telemetry, before: &Effective, after: &Effective) {
    told(telemetry, before, 0.0);
    told(telemetry, after, 1.0);
}

fn told(telemetry: &Telemetry, effective: &Effective, value: f64) {
    let labels = [env!("CARGO_PKG_VERSION"), SOURCE, &effective.revision, &effective.digest];
    telemetry.metrics.build_info.set(value, labels);
}

/// What leaves, and where to. `variable` reads the environment.
fn settings(configuration: &Configuration, variable: impl Fn(&str) -> Option<String>) -> Result<Settings, Fault> {
    // A variable that is set to nothing says nothing.
    let said = |name: &str| variable(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
    let telemetry = &configuration.telemetry;
    let is_off = said("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let base = said("OTEL_EXPORTER_OTLP_ENDPOINT").or_else(|| telemetry.endpoint.clone());
    let to = |signal: &str, path: &str, wanted: bool| -> Result<Option<String>, Fault> {
        if is_off || !wanted {
            return Ok(None);
        }
        match said(&format!("OTEL_{signal}_EXPORTER")).as_deref() {
            None | Some("otlp") => {}
            Some("none") => return Ok(None),
            Some(other) => return Err(wrong(&format!("OTEL_{signal}_EXPORTER"), other, "say otlp or none")),
        }
        for name in [format!("OTEL_EXPORTER_OTLP_{signal}_PROTOCOL"), "OTEL_EXPORTER_OTLP_PROTOCOL".to_owned()] {
            if let Some(other) = said(&name).filter(|protocol| protocol != "http/protobuf") {
                return Err(wrong(&name, &other, "only http/protobuf is spoken; its port is usually 4318"));
            }
        }
        let own = format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT");
        let (name, url) = match (said(&own), &base) {
            (Some(url), _) => (own, url),
            (None, Some(base)) => ("telemetry.endpoint".to_owned(), format!("{}{path}", base.trim_end_matches('/'))),
            (None, None) => return Ok(None),
        };
        match reqwest::Url::parse(&url) {
            Ok(parsed) if matches!(parsed.scheme(), "http" | "https") && parsed.has_host() => Ok(Some(url)),
            Ok(_) | Err(_) => {
                let shown = crate::configuration::shown_url(&url);
                Err(wrong(&name, &shown, "write a URL of a collector, as http://127.0.0.1:4318"))
            }
        }
    };
    let every = backend::span("telemetry.metrics_every", &telemetry.metrics_every)?;
    Ok(Settings {
        service: said("OTEL_SERVICE_NAME").unwrap_or_else(|| telemetry.service.clone()),
        about: Vec::new(),
        spans_to: to("TRACES", "/v1/traces", telemetry.traces)?,
        metrics_to: to("METRICS", "/v1/metrics", telemetry.metrics)?,
        metrics_every: Duration::try_from(every).unwrap_or_default().max(Duration::from_secs(1)),
    })
}

fn wrong(name: &str, value: &str, advice: &str) -> Fault {
    Fault::usage(anyhow::anyhow!("{name}: `{value}` cannot be used: {advice}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(yaml: &str, variables: &[(&str, &str)]) -> Result<(Option<String>, Option<String>), String> {
        let configuration = Configuration::read("tipoff.yaml", yaml).unwrap();
        let variable =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let settings = settings(&configuration, variable).map_err(|fault| fault.error.to_string())?;
        Ok((settings.spans_to, settings.metrics_to))
    }

    const FILE: &str = "telemetry: { endpoint: 'http://collector:4318/' }\n";

    #[test]
    fn nothing_leaves_unless_it_is_said_where_to() {
        assert_eq!(found("# nothing\n", &[]), Ok((None, None)));
        assert_eq!(found("# nothing\n", &[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]), Ok((None, None)));
        let (spans, metrics) = found(FILE, &[]).unwrap();
        assert_eq!(spans.as_deref(), Some("http://collector:4318/v1/traces"));
        assert_eq!(metrics.as_deref(), Some("http://collector:4318/v1/metrics"));
    }

    #[test]
    fn the_variables_win_over_the_file() {
        let (spans, metrics) = found(
            FILE,
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://other:4318"),
                ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://traces.example/in"),
            ],
        )
        .unwrap();
        assert_eq!(spans.as_deref(), Some("https://traces.example/in"));
        assert_eq!(metrics.as_deref(), Some("http://other:4318/v1/metrics"));
        assert_eq!(found(FILE, &[("OTEL_SDK_DISABLED", "true")]), Ok((None, None)));
        assert_eq!(found(FILE, &[("OTEL_TRACES_EXPORTER", "none")]).unwrap().0, None);
        let quiet = "telemetry: { endpoint: 'http://collector:4318', traces: false }\n";
        assert_eq!(found(quiet, &[]).unwrap().0, None);
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_advice_and_without_a_secret() {
        let refused = found(FILE, &[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]).unwrap_err();
        assert!(refused.contains("OTEL_EXPORTER_OTLP_PROTOCOL") && refused.contains("http/protobuf"), "{refused}");
        let refused = found("telemetry: { endpoint: 'collector:4318' }\n", &[]).unwrap_err();
        assert!(refused.contains("telemetry.endpoint") && refused.contains("http://"), "{refused}");
        let refused = found("telemetry: { endpoint: 'ftp://ann:hunter2@x' }\n", &[]).unwrap_err();
        assert!(!refused.contains("hunter2"), "{refused}");
    }
}
