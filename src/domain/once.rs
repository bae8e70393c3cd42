//! Answers to calls that may be made twice, by the key that the caller gave them.
//!
//! A call is entered before it is carried out and answered after it. What a crash leaves entered and unanswered is carried out
//! again, as of the instant at which it was first entered, so that it is the same request.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::time::after;

/// Calls that are remembered; each is an operator's.
pub const CALLS_MAX: usize = 256;
/// Characters of an answer that are kept. Answers to requests are short; a longer one is given once only.
pub const ANSWER_MAX: usize = 4_000;
/// How long a call is remembered.
pub const KEPT_FOR: SignedDuration = SignedDuration::from_hours(24);
/// A call that is entered and not answered is under way for so long; then whoever made it is gone.
const UNDER_WAY: SignedDuration = SignedDuration::from_secs(30);

/// The calls of late, oldest first.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Calls(#[serde(default)] VecDeque<Call>);

/// One call.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Call {
    /// A digest of the caller's key.
    key: String,
    /// A digest of what was called, and with what.
    content: String,
    /// When it was first made.
    first: Timestamp,
    /// When it was last begun.
    begun: Timestamp,
    /// What came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    answer: Option<(u16, String)>,
}

/// What a call under a key is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Entered {
    /// To be carried out, as of then.
    New(Timestamp),
    /// It was answered, with this code and body.
    Answered(u16, String),
    /// Another call under this key asks for something else.
    Other,
    /// The same call is being carried out.
    UnderWay,
}

impl Calls {
    /// Enters a call, or says what became of it when it was made before.
    pub fn enter(&mut self, key: &str, content: &str, now: Timestamp) -> Entered {
        self.0.retain(|call| after(call.first, KEPT_FOR) > now);
        if let Some(call) = self.0.iter_mut().find(|call| call.key == key) {
            return match &call.answer {
                _ if call.content != content => Entered::Other,
                Some((code, body)) => Entered::Answered(*code, body.clone()),
                None if after(call.begun, UNDER_WAY) > now => Entered::UnderWay,
                None => {
                    call.begun = now;
                    Entered::New(call.first)
                }
            };
        }
        if self.0.len() >= CALLS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(Call { key: key.into(), content: content.into(), first: now, begun: now, answer: None });
        Entered::New(now)
    }

    /// Notes what came of a call. One that came to nothing is forgotten, so that it may be made again.
    pub fn answer(&mut self, key: &str, answer: Option<(u16, String)>) {
        match answer.filter(|(_, body)| body.len() <= ANSWER_MAX) {
            Some(answer) => {
                if let Some(call) = self.0.iter_mut().find(|call| call.key == key) {
                    call.answer = Some(answer);
                }
            }
            None => self.0.retain(|call| call.key != key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_770_000_000 + second).unwrap()
    }

    #[test]
    fn the_same_key_has_one_answer_and_one_content() {
        let mut calls = Calls::default();
        assert_eq!(calls.enter("k", "a", at(0)), Entered::New(at(0)));
        assert_eq!(calls.enter("k", "a", at(1)), Entered::UnderWay);
        assert_eq!(calls.enter("k", "b", at(1)), Entered::Other);
        // Whoever made it died: it is carried out again as the request that it was.
        assert_eq!(calls.enter("k", "a", at(40)), Entered::New(at(0)));
        calls.answer("k", Some((200, "{}".to_owned())));
        assert_eq!(calls.enter("k", "a", at(50)), Entered::Answered(200, "{}".to_owned()));
        assert_eq!(calls.enter("k", "b", at(50)), Entered::Other);
        assert_eq!(calls.enter("k", "b", at(0) + KEPT_FOR), Entered::New(at(0) + KEPT_FOR));
    }

    #[test]
    fn what_came_to_nothing_may_be_tried_again_and_so_many_are_kept() {
        let mut calls = Calls::default();
        calls.enter("k", "a", at(0));
        calls.answer("k", None);
        assert_eq!(calls.enter("k", "b", at(1)), Entered::New(at(1)));
        for number in 0..2 * CALLS_MAX {
            calls.enter(&number.to_string(), "a", at(2));
        }
        assert_eq!(calls.0.len(), CALLS_MAX);
    }
}
