//! How much of an output is there? Asks a node's probe and reads its rows.
//!
//! What holds: what went wrong is an answer of its own, never 0 and never 1. Only an answer that cannot get better is
//! remembered: a shortage that outlived the end of the run that mends it would ask for a second run.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use gcp_bigquery_client::model::query_response::QueryResponse;
use jiff::Timestamp;
use jiff::civil::Date;

use super::Bigquery;
use super::query::Unasked;
use crate::domain::coverage::{Coverage, PerMille};
use crate::domain::id::UnitId;
use crate::pipeline::probe::Probe;
use crate::port::Answer;

/// Units of one output. A league has thirty teams; an answer with more is not by unit.
const UNITS_MAX: usize = 1000;

/// Answers that are still good, by question.
#[derive(Debug, Default)]
pub(super) struct Remembered(Mutex<BTreeMap<(Probe, Date), (Timestamp, Answer)>>);

impl Remembered {
    fn get(&self, question: &(Probe, Date), now: Timestamp) -> Option<Answer> {
        let answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        answers.get(question).filter(|(until, _)| now < *until).map(|(_, answer)| answer.clone())
    }

    fn put(&self, question: (Probe, Date), answer: &Answer, now: Timestamp, until: Timestamp) {
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Bounded by what is asked within the time an answer is kept.
        answers.retain(|_, (until, _)| now < *until);
        answers.insert(question, (until, answer.clone()));
    }
}

impl Bigquery {
    pub(super) async fn ask(&self, probe: &Probe, date: Date) -> Answer {
        let now = self.settings.clock.now();
        let question = (probe.clone(), date);
        if let Some(answer) = self.remembered.get(&question, now) {
            return answer;
        }
        let answer = match self.query(probe, date, UNITS_MAX).await {
            Ok(response) => answer(&response).map_err(|why| format!("probe {}: {why}", probe.name)),
            Err(Unasked::Paused(reason)) => Err(reason),
            Err(Unasked::Failed(why)) => Err(format!("probe {}: {why}", probe.name)),
        };
        let answer = answer.unwrap_or_else(Answer::Unknown);
        if is_final(&answer) {
            let until = now.saturating_add(self.settings.keep).unwrap_or(Timestamp::MAX);
            self.remembered.put(question, &answer, now, until);
        }
        answer
    }
}

/// Whether asking again soon could only give the same: all is there, or nothing is expected.
fn is_final(answer: &Answer) -> bool {
    match answer {
        Answer::Known { coverage, .. } => coverage.reaches(PerMille::FULL),
        Answer::NotKept => true,
        Answer::Unknown(_) => false,
    }
}

/// What the rows say, in sum and by unit.
fn answer(response: &QueryResponse) -> Result<Answer, String> {
    let fields = response.schema.as_ref().and_then(|schema| schema.fields.as_deref()).unwrap_or_default();
    let place = |name: &str| fields.iter().position(|field| field.name == name);
    let observed_at = place("observed").ok_or("its rows have no column observed")?;
    let expected_at = place("expected").ok_or("its rows have no column expected")?;
    let unit_at = place("unit");
    let rows = response.rows.as_deref().unwrap_or_default();
    let (mut sum, mut units) = ((0_u32, 0_u32), BTreeMap::new());
    for row in rows {
        let cells = row.columns.as_deref().unwrap_or_default();
        let cell = |at: usize| cells.get(at).and_then(|cell| cell.value.as_ref()).and_then(|value| value.as_str());
        let count = |at: usize, name: &str| -> Result<u32, String> {
            let text = cell(at).ok_or_else(|| format!("{name} is null"))?;
            text.parse().map_err(|_| format!("{name} is {text}, not a count"))
        };
        let (observed, expected) = (count(observed_at, "observed")?, count(expected_at, "expected")?);
        if unit_at.is_none() {
            sum = (observed, expected);
        } else if expected > 0 {
            // Where units are told apart, it is they that count: a game has enough players, or it has not.
            sum = (sum.0 + u32::from(observed >= expected), sum.1 + 1);
        }
        match (unit_at.map(cell), Coverage::new(observed, expected)) {
            (Some(None), _) => return Err("unit is null".to_owned()),
            (Some(Some(unit)), Some(coverage)) => {
                if units.insert(UnitId::new(unit), coverage).is_some() {
                    return Err(format!("it names {unit} twice"));
                }
            }
            (None, _) if rows.len() > 1 => return Err("it gave several rows and no column unit".to_owned()),
            (None, _) | (Some(Some(_)), None) => {}
        }
    }
    Ok(Coverage::new(sum.0, sum.1).map_or(Answer::NotKept, |coverage| Answer::Known { coverage, units }))
}
