//! Alerts that are on, one document each.
//!
//! An alert that is on is told once; what was decided earlier and arrives later does not undo what was decided later.

use jiff::Timestamp;

use super::Firestore;
use super::document::{Only, Read, increment, instant, json, text, transformed, write};
use super::store::{document_id, unavailable};
use crate::domain::effect::{About, Alert, Severity, Turn};
use crate::domain::id::AlertKey;
use crate::domain::time::after;
use crate::port::StoreError;

const ALERTS: &str = "alerts";
/// The most alerts shown. More than a few are a flood, which other alerts tell.
const SHOWN_MAX: u32 = 1000;

impl Firestore {
    /// Raises or resolves an alert. Returns whether that is news: not a repetition, and not overtaken by what came later.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn tell(&self, alert: &Alert) -> Result<bool, StoreError> {
        let id = document_id(alert.key.as_str());
        let name = self.name(ALERTS, &id);
        let mut news = false;
        self.change(ALERTS, &id, |found| {
            let before = found.map(Standing::read).transpose()?;
            let change = change(before.as_ref(), alert);
            news = matches!(change, Change::News);
            if matches!(change, Change::Nothing) {
                return Ok(None);
            }
            let on = alert.turn == Turn::Raised;
            let raised_at = match &before {
                Some(before) if before.is_on() && on => before.raised_at,
                Some(before) if !on => before.raised_at,
                _ => alert.at,
            };
            let fields = vec![
                ("key", text(alert.key.as_str())),
                ("severity", text(severity_word(alert.severity))),
                ("text", text(&alert.text)),
                ("about", json(&alert.about)?),
                ("on", super::document::boolean(on)),
                ("raised_at", instant(raised_at)),
                ("changed_at", instant(alert.at)),
                ("resolved_at", if on { None } else { instant(alert.at) }),
                ("expire_at", if on { None } else { instant(after(alert.at, self.settings.keep)) }),
            ];
            let only = found.map_or(Only::IfNew, |found| found.updated().map_or(Only::IfThere, Only::IfUnchanged));
            Ok(Some(transformed(write(name.clone(), fields, only), "times", increment(u64::from(on)))))
        })
        .await?;
        if news {
            log(alert);
        }
        Ok(news)
    }

    /// The alert as it was last told, if it is kept.
    ///
    /// # Errors
    /// If the database does not answer, or the document is not what was written.
    pub async fn alert_of(&self, key: &AlertKey) -> Result<Option<Alert>, StoreError> {
        self.get(ALERTS, &document_id(key.as_str())).await?.as_ref().map(read).transpose()
    }

    /// Alerts that are on, the worst first, then the oldest.
    ///
    /// # Errors
    /// If the database does not answer, or a document is not what was written.
    pub async fn alerts_on(&self) -> Result<Vec<Alert>, StoreError> {
        let query = self.db.fluent().select().from(self.collection(ALERTS).as_str());
        let found = query
            .filter(|q| q.for_all([q.field("on").eq(true)]))
            .order(|o| o.fields([o.field("changed_at").asc()]))
            .limit(SHOWN_MAX)
            .query()
            .await;
        let mut alerts = Vec::new();
        for found in found.map_err(unavailable)? {
            alerts.push(read(&Read::new(found))?);
        }
        alerts.sort_by_key(|alert| std::cmp::Reverse(alert.severity));
        Ok(alerts)
    }
}

fn read(found: &Read) -> Result<Alert, StoreError> {
    let severity =
        severity(found.text("severity")?).ok_or_else(|| found.wrong("severity", "none of info, warning, critical"))?;
    // Those written before it was kept have none.
    let about = if found.has("about") { found.json("about")? } else { About::default() };
    Ok(Alert {
        key: AlertKey::new(found.text("key")?),
        severity,
        turn: if found.maybe_instant("resolved_at")?.is_some() { Turn::Resolved } else { Turn::Raised },
        text: found.text("text")?.to_owned(),
        at: found.instant("changed_at")?,
        about,
    })
}

/// What is known of an alert before it is told again.
struct Standing {
    severity: String,
    raised_at: Timestamp,
    changed_at: Timestamp,
    resolved_at: Option<Timestamp>,
}

impl Standing {
    fn read(found: &Read) -> Result<Self, StoreError> {
        Ok(Self {
            severity: found.text("severity")?.to_owned(),
            raised_at: found.instant("raised_at")?,
            changed_at: found.instant("changed_at")?,
            resolved_at: found.maybe_instant("resolved_at")?,
        })
    }

    fn is_on(&self) -> bool {
        self.resolved_at.is_none()
    }
}

enum Change {
    News,
    /// It is so already; its text and its last instant move.
    Again,
    Nothing,
}

fn change(before: Option<&Standing>, alert: &Alert) -> Change {
    let Some(before) = before else {
        // An end without a beginning is kept, since the beginning may be on its way; nobody is told.
        return if alert.turn == Turn::Raised { Change::News } else { Change::Again };
    };
    if alert.at < before.changed_at || (alert.at == before.changed_at && before.is_on() == (alert.turn == Turn::Raised))
    {
        return Change::Nothing;
    }
    match alert.turn {
        Turn::Raised if before.is_on() && before.severity == severity_word(alert.severity) => Change::Again,
        Turn::Resolved if !before.is_on() => Change::Nothing,
        Turn::Raised | Turn::Resolved => Change::News,
    }
}

fn log(alert: &Alert) {
    let key = alert.key.as_str();
    match (alert.turn, alert.severity) {
        (Turn::Raised, Severity::Critical) => tracing::error!(alert.key = key, "{}", alert.text),
        (Turn::Raised, Severity::Warning) => tracing::warn!(alert.key = key, "{}", alert.text),
        (Turn::Raised, Severity::Info) => tracing::info!(alert.key = key, "{}", alert.text),
        (Turn::Resolved, _) => tracing::info!(alert.key = key, "over: {}", alert.text),
    }
}

fn severity_word(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}

fn severity(word: &str) -> Option<Severity> {
    [Severity::Info, Severity::Warning, Severity::Critical]
        .into_iter()
        .find(|severity| severity_word(*severity) == word)
}
