//! What a line of the log looks like: for people, as plain JSON, or as Google Cloud's logging reads it.
//!
//! Whatever the form, one event is one line. Strangers' words stand in fields, each of bounded length and without what a
//! terminal or a parser would obey, so that no name can end a line, begin another, or claim a severity.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::{self, Write as _};

use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

use crate::clock::Clock;
use crate::domain::trace::TraceContext;
use crate::domain::words::harmless;

/// Bytes of one field.
const FIELD_MAX: usize = 1024;
/// What Google's logging reads of a line itself; a field of ours that is called so is told under another name.
const GOOGLES: &str = "logging.googleapis.com/";
/// Fields by which lines are looked for; Google's logging keeps an index of such labels.
const LABELS: [&str; 5] = ["partition", "node", "dispatch", "channel", "topic"];

/// The form.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Form {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
    /// The same, as Google Cloud's logging reads it: severity, trace, labels, place in the source.
    Gcp,
}

/// Starts the log, on standard error. Only the first call counts.
///
/// # Errors
/// If the filter is none.
pub fn start(filter: &str, form: Form, colours: bool, project: Option<String>) -> Result<(), ParseError> {
    let filter = EnvFilter::try_new(filter)?;
    // In the log's own form, where whoever watches it finds it.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let text = panic.payload_as_str().unwrap_or("no words");
        let trace = Backtrace::capture();
        match trace.status() {
            BacktraceStatus::Captured => tracing::error!(place, %trace, "a panic: {text}"),
            _ => tracing::error!(place, "a panic: {text}; RUST_BACKTRACE=1 shows how it came to it"),
        }
    }));
    let _ = match form {
        Form::Text => tracing::subscriber::set_global_default(people(filter, colours, std::io::stderr)),
        Form::Json => tracing::subscriber::set_global_default(machine(filter, Machine::Plain, std::io::stderr)),
        Form::Gcp => {
            tracing::subscriber::set_global_default(machine(filter, Machine::Google { project }, std::io::stderr))
        }
    };
    Ok(())
}

fn people(
    filter: EnvFilter,
    colours: bool,
    to: impl for<'w> MakeWriter<'w> + Send + Sync + 'static,
) -> impl Subscriber + Send + Sync {
    let fields = debug_fn(|writer, field, value| {
        let shown = bounded(&format!("{value:?}"));
        if field.name() == "message" { write!(writer, "{shown}") } else { write!(writer, "{field}={shown}") }
    });
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(colours)
        .fmt_fields(fields.delimited(" "))
        .with_writer(to)
        // It would say on standard error that nothing can be written there, and end in a panic.
        .log_internal_errors(false)
        .finish()
}

fn machine(
    filter: EnvFilter,
    form: Machine,
    to: impl for<'w> MakeWriter<'w> + Send + Sync + 'static,
) -> impl Subscriber + Send + Sync {
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .log_internal_errors(false)
        .event_format(form)
        .with_writer(to)
        .finish()
}

/// The forms for machines.
#[derive(Debug)]
enum Machine {
    Plain,
    Google { project: Option<String> },
}

impl<S, N> FormatEvent<S, N> for Machine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let line = self.line(event, fields);
        writeln!(writer, "{}", Value::Object(line))
    }
}

impl Machine {
    fn line(&self, event: &Event<'_>, fields: Fields) -> Map<String, Value> {
        let place = event.metadata();
        let mut line = fields.others;
        if let Self::Google { project } = self {
            let labels = LABELS.into_iter().filter_map(|label| Some((label.to_owned(), line.get(label)?.clone())));
            let labels: Map<String, Value> = labels.collect();
            if !labels.is_empty() {
                line.insert(format!("{GOOGLES}labels"), labels.into());
            }
            if let (Some(file), Some(number)) = (place.file(), place.line()) {
                let source = json!({ "file": file, "line": number.to_string(), "function": place.module_path() });
                line.insert(format!("{GOOGLES}sourceLocation"), source);
            }
            if let Some(trace) = fields.trace {
                let written = trace.to_string();
                let id = written.get(3..35).unwrap_or_default();
                let name =
                    project.as_ref().map_or_else(|| id.to_owned(), |id_of| format!("projects/{id_of}/traces/{id}"));
                line.insert(format!("{GOOGLES}trace"), name.into());
                line.insert(format!("{GOOGLES}spanId"), written.get(36..52).unwrap_or_default().into());
                line.insert(format!("{GOOGLES}trace_sampled"), trace.sampled.into());
            }
        } else if let Some(trace) = fields.trace {
            line.insert("trace".to_owned(), trace.to_string().into());
        }
        let severity = match *place.level() {
            Level::ERROR => "ERROR",
            Level::WARN => "WARNING",
            Level::INFO => "INFO",
            Level::DEBUG | Level::TRACE => "DEBUG",
        };
        // Last, so that nothing else can be in their place.
        line.insert("severity".to_owned(), severity.into());
        line.insert("time".to_owned(), Clock::System.now().to_string().into());
        line.insert("target".to_owned(), place.target().into());
        line.insert("message".to_owned(), fields.message.into());
        line
    }
}

/// What an event says.
#[derive(Default)]
struct Fields {
    message: String,
    trace: Option<TraceContext>,
    others: Map<String, Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        let name = field.name();
        let ours = matches!(name, "severity" | "time" | "target") || name.starts_with(GOOGLES);
        self.others.insert(if ours { format!("field.{name}") } else { name.to_owned() }, value);
    }

    fn text(&mut self, field: &Field, text: &str) {
        match field.name() {
            "message" => self.message = bounded(text),
            "trace" => match text.parse() {
                Ok(trace) => self.trace = Some(trace),
                Err(_) => self.put(field, bounded(text).into()),
            },
            _ => self.put(field, bounded(text).into()),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = Bounded::default();
        // What does not fit is left out, and that is its only error.
        let _ = write!(text, "{value:?}");
        self.text(field, &text.0);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }
}

/// Text that takes no more than a field may have, and a little by which it is seen that there was more.
#[derive(Default)]
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() > FIELD_MAX {
            return Err(fmt::Error);
        }
        self.0.push_str(text.get(..text.floor_char_boundary(2 * FIELD_MAX)).unwrap_or_default());
        Ok(())
    }
}

/// What a field shows of a text: harmless, and at most [`FIELD_MAX`] bytes.
fn bounded(text: &str) -> String {
    let cut = text.get(..text.floor_char_boundary(FIELD_MAX)).unwrap_or_default();
    let mut shown = harmless(cut);
    let most = FIELD_MAX - '…'.len_utf8();
    if shown.len() > FIELD_MAX || cut.len() < text.len() {
        shown.truncate(shown.floor_char_boundary(most));
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    const HOSTILE: [&str; 6] = [
        "a\n{\"severity\":\"CRITICAL\",\"message\":\"all is lost\"}",
        "\u{2028}{\"severity\":\"CRITICAL\"}\u{2029}",
        "\",\"severity\":\"CRITICAL",
        "\u{1b}[2J\r\u{0}\u{85}\u{9b}31m",
        "\u{202e}desrever\u{2066}",
        "\u{feff}\\n\\u0000",
    ];

    fn told(form: Option<Machine>) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let to = move || writer.clone();
        let filter = EnvFilter::new("info");
        let say = || {
            for words in HOSTILE {
                tracing::warn!(node = words, severity = "CRITICAL", time = %words, "not delivered: {words}");
                tracing::info!(words = ?Some(words), count = 3, trace = words, "\"quoted\"");
            }
            let long = "é".repeat(5_000);
            tracing::error!(long, inside = ?vec!["x\n"; 4_000], "{long}");
            tracing::info!(trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "dispatched");
        };
        match form {
            Some(form) => tracing::subscriber::with_default(machine(filter, form, to), say),
            None => tracing::subscriber::with_default(people(filter, false, to), say),
        }
        String::from_utf8(kept.0.lock().unwrap().clone()).unwrap()
    }

    fn is_harmless(text: &str) -> bool {
        !text.chars().any(|letter| letter.is_control() || "\u{2028}\u{2029}\u{202e}\u{2066}".contains(letter))
    }

    #[test]
    fn no_name_ends_a_line_or_claims_a_severity() {
        for form in [Machine::Plain, Machine::Google { project: Some("p".to_owned()) }] {
            let text = told(Some(form));
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!(lines.len(), 2 * HOSTILE.len() + 2, "{text}");
            for (index, line) in lines.iter().enumerate() {
                assert!(is_harmless(line), "{line}");
                let line: Map<String, Value> =
                    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
                let severity = match index {
                    12 => "ERROR",
                    index if index % 2 == 0 && index < 12 => "WARNING",
                    _ => "INFO",
                };
                assert_eq!(line["severity"], severity, "{line:?}");
                assert!(line["time"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{line:?}");
                for (name, value) in &line {
                    let value = value.as_str().unwrap_or_default();
                    assert!(value.len() <= FIELD_MAX && is_harmless(value), "{name}: {value}");
                }
            }
        }
    }

    #[test]
    fn people_read_one_line_an_event_as_well() {
        let text = told(None);
        assert_eq!(text.lines().count(), 2 * HOSTILE.len() + 2, "{text}");
        for line in text.lines() {
            assert!(is_harmless(line) && line.len() < 4 * FIELD_MAX, "{line}");
        }
        assert!(text.contains("WARN"), "{text}");
    }

    #[test]
    fn google_finds_the_trace_the_labels_and_the_place() {
        let text = told(Some(Machine::Google { project: Some("p".to_owned()) }));
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let last = lines.last().unwrap();
        assert_eq!(last["logging.googleapis.com/trace"], "projects/p/traces/0af7651916cd43dd8448eb211c80319c");
        assert_eq!(last["logging.googleapis.com/spanId"], "b7ad6b7169203331");
        assert_eq!(last["logging.googleapis.com/trace_sampled"], true);
        assert!(last["logging.googleapis.com/sourceLocation"]["file"].as_str().unwrap().ends_with("log.rs"));
        assert_eq!(lines[0]["logging.googleapis.com/labels"]["node"], lines[0]["node"]);
        assert_eq!(lines[0]["field.severity"], "CRITICAL");
        // What is no trace is a field like any other.
        assert!(lines[1]["trace"].is_string(), "{}", lines[1]);
    }
}
