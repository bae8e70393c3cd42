//! What a run says of itself, for whoever reports without code of its own: the heartbeat and the unified completion, as
//! `schemas/heartbeat.json` and `schemas/completion.json` have them.

use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::{Value, json};

use crate::domain::event::Pulse;
use crate::domain::id::NodeId;

/// The longest message of a failure that is sent; readers keep no more.
const WORDS_MAX: usize = 1000;

/// The phases by the label of their nodes, in the words of producers and of the tables' readers. Another label stands for itself.
const PHASES: [(&str, &str); 7] = [
    ("scrapers", "phase_1_scrapers"),
    ("raw", "phase_2_raw"),
    ("analytics", "phase_3_analytics"),
    ("precompute", "phase_4_precompute"),
    ("predictions", "phase_5_predictions"),
    ("grading", "phase_5b_grading"),
    ("export", "phase_6_publishing"),
];

/// What producers call the phase whose nodes have this label.
#[must_use]
pub fn phase_word(label: &str) -> &str {
    PHASES.iter().find(|(known, _)| *known == label).map_or(label, |(_, word)| *word)
}

/// One run, by whoever carries it out.
#[derive(Clone, Debug)]
pub struct Producer {
    /// Which node.
    pub node: NodeId,
    /// Its phase, by the label of its node.
    pub phase: String,
    /// Which date.
    pub date: Date,
    /// Names the run: heartbeats and completion of one run have one.
    pub run: String,
    /// The dispatch that asked for it, if one did.
    pub dispatch: Option<String>,
    /// What it belongs to.
    pub correlation: String,
    /// When it began.
    pub started_at: Timestamp,
}

/// How a run ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ending {
    /// It did what it was to do.
    Done,
    /// It did not, and why.
    Failed(String),
}

impl Producer {
    /// A sign of life at `at`, with the units done and to do; both zero where that is not known.
    #[must_use]
    pub fn heartbeat(&self, pulse: Pulse, (done, total): (u64, u64), at: Timestamp) -> Value {
        let status = match pulse {
            Pulse::Running => "running",
            Pulse::Ended => "completed",
            Pulse::Failed => "failed",
        };
        let mut body = json!({
            "processor_name": self.node,
            "run_id": self.run,
            "data_date": self.date,
            "status": status,
            "started_at": self.started_at,
            "last_heartbeat": at,
            "progress": done,
            "total": total,
        });
        self.echo(&mut body);
        body
    }

    /// The end of the run at `at`, with the rows it made where that is known.
    #[must_use]
    pub fn completion(&self, ending: &Ending, records: Option<u64>, at: Timestamp) -> Value {
        let mut body = json!({
            "processor_name": self.node,
            "phase": phase_word(&self.phase),
            "execution_id": self.run,
            "correlation_id": self.correlation,
            "game_date": self.date,
            "timestamp": at,
            "duration_seconds": at.duration_since(self.started_at).as_secs(),
        });
        if let Some(records) = records {
            body["record_count"] = json!(records);
        }
        match ending {
            Ending::Done => body["status"] = json!("success"),
            Ending::Failed(why) => {
                body["status"] = json!("failed");
                body["error_message"] = json!(why.chars().take(WORDS_MAX).collect::<String>());
            }
        }
        self.echo(&mut body);
        body
    }

    fn echo(&self, body: &mut Value) {
        if let Some(dispatch) = &self.dispatch {
            body["tipoff"] = json!({ "dispatch_id": dispatch });
        }
    }
}
