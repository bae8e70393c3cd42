//! Which alerts are on, and what has been told of each.

use jiff::Timestamp;
use rusqlite::{Connection, Row};

use super::text::{corrupt, get, instant, json, read_instant, read_json};
use crate::domain::effect::{About, Alert, Severity, Turn};
use crate::domain::id::AlertKey;
use crate::port::StoreError;

/// Raises an alert of the store's own.
pub(super) fn raise(
    db: &Connection,
    key: &str,
    severity: Severity,
    text: &str,
    at: Timestamp,
) -> Result<(), StoreError> {
    tell(db, &Alert::new(AlertKey::from(key), severity, Turn::Raised, text.to_owned(), at))
}

/// Keeps that an alert is on, or over.
pub(super) fn tell(db: &Connection, alert: &Alert) -> Result<(), StoreError> {
    let (key, severity, at) = (alert.key.as_str(), severity_word(alert.severity), instant(alert.at));
    let about = json(&alert.about)?;
    let turn = match alert.turn {
        Turn::Raised => "raised",
        Turn::Resolved => "resolved",
    };
    if alert.turn == Turn::Raised {
        // An alert that is on already is counted and not told again: poison may come hundreds of times a second.
        let on = db
            .prepare_cached(
                "UPDATE alerts SET text = iif(?4 > changed_at, ?3, text), about = iif(?4 > changed_at, ?5, about),
                   times = times + (?4 > changed_at), changed_at = max(changed_at, ?4)
                 WHERE key = ?1 AND severity = ?2 AND resolved_at IS NULL",
            )?
            .execute([key, severity, &alert.text, &at, &about])?;
        if on > 0 {
            return Ok(());
        }
    }
    let was_on = db.prepare_cached("SELECT 1 FROM alerts WHERE key = ?1 AND resolved_at IS NULL")?.exists([key])?;
    let logged = db
        .prepare_cached(
            "INSERT INTO alert_log (key, turn, severity, text, at) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
        )?
        .execute([key, turn, severity, &alert.text, &at])?;
    if logged == 0 {
        // Told before; a repeated delivery is not a second alert.
        return Ok(());
    }
    // What was decided earlier but arrives later does not undo what was decided later.
    match alert.turn {
        Turn::Raised => db
            .prepare_cached(
                "INSERT INTO alerts (key, severity, text, raised_at, changed_at, times, about)
                 VALUES (?1, ?2, ?3, ?4, ?4, 1, ?5)
                 ON CONFLICT (key) DO UPDATE SET severity = excluded.severity, text = excluded.text, about = excluded.about,
                   raised_at = iif(resolved_at IS NULL, raised_at, excluded.raised_at),
                   changed_at = excluded.changed_at, resolved_at = NULL, times = times + 1
                 WHERE excluded.changed_at >= changed_at",
            )?
            .execute([key, severity, &alert.text, &at, &about])?,
        Turn::Resolved => db
            // Also where nothing was raised yet: that may be on its way, and is then over already.
            .prepare_cached(
                "INSERT INTO alerts (key, severity, text, raised_at, changed_at, resolved_at, times, about)
                 VALUES (?1, ?2, ?3, ?4, ?4, ?4, 0, ?5)
                 ON CONFLICT (key) DO UPDATE SET resolved_at = excluded.resolved_at, changed_at = excluded.changed_at,
                   text = excluded.text
                 WHERE excluded.changed_at >= changed_at",
            )?
            .execute([key, severity, &alert.text, &at, &about])?,
    };
    match (alert.turn, alert.severity) {
        (Turn::Raised, Severity::Critical) => tracing::error!(alert.key = key, "{}", alert.text),
        (Turn::Raised, Severity::Warning) => tracing::warn!(alert.key = key, "{}", alert.text),
        (Turn::Raised, Severity::Info) => tracing::info!(alert.key = key, "{}", alert.text),
        (Turn::Resolved, _) if was_on => tracing::info!(alert.key = key, "over: {}", alert.text),
        // An end without a beginning is nobody's news.
        (Turn::Resolved, _) => {}
    }
    Ok(())
}

/// Those that are on, the gravest first.
pub(super) fn alerts(db: &Connection) -> Result<Vec<Alert>, StoreError> {
    let mut query = db.prepare_cached("SELECT * FROM alerts WHERE resolved_at IS NULL ORDER BY changed_at, key")?;
    let rows = query.query_and_then([], read_alert)?;
    let mut alerts = rows.collect::<Result<Vec<_>, StoreError>>()?;
    alerts.sort_by_key(|alert| std::cmp::Reverse(alert.severity));
    Ok(alerts)
}

/// The last that is known of an alert.
pub(super) fn alert_of(db: &Connection, key: &AlertKey) -> Result<Option<Alert>, StoreError> {
    let mut query = db.prepare_cached("SELECT * FROM alerts WHERE key = ?1")?;
    let mut rows = query.query([key.as_str()])?;
    rows.next()?.map(read_alert).transpose()
}

fn read_alert(row: &Row<'_>) -> Result<Alert, StoreError> {
    let key: String = get(row, "key", "an alert")?;
    let what = format!("alerts/{key}");
    let word: String = get(row, "severity", &what)?;
    let severity = [Severity::Info, Severity::Warning, Severity::Critical]
        .into_iter()
        .find(|severity| severity_word(*severity) == word)
        .ok_or_else(|| corrupt(&what, format!("`{word}` is no severity")))?;
    let over: Option<String> = get(row, "resolved_at", &what)?;
    // A file that is only read may be of a version that did not keep it.
    let about: Option<String> = row.get("about").unwrap_or_default();
    Ok(Alert {
        severity,
        turn: if over.is_some() { Turn::Resolved } else { Turn::Raised },
        text: get(row, "text", &what)?,
        at: read_instant(row, "changed_at", &what)?,
        about: about.map_or(Ok(About::default()), |about| read_json(&about, &what))?,
        key: AlertKey::new(key),
    })
}

fn severity_word(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}
