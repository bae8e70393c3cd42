//! `reconcile`: what is believed of a date beside what the warehouse says of it.

use clap::Args;
use serde_json::json;

use super::backend::Access;
use super::paint::Paint;
use super::say::say;
use super::whole::Whole;
use super::{Common, Fault, Verdict, carry};
use crate::desk::ask;
use crate::domain::id::NodeId;
use crate::domain::words;
use crate::engine::reconcile::Reconciled;

/// `tipoff reconcile DATE`
#[derive(Args)]
#[command(
    after_help = "Asks the warehouse about every output of the date. Exits 1 where something else is believed than is \
    there, and 3 where it could tell of nothing. With --apply the date is told what the warehouse says, as an observation, and \
    what follows is decided from that: there is no flag to set.\nExample: tipoff reconcile yesterday --apply"
)]
pub struct Reconcile {
    /// Which date
    date: String,
    /// Have the date follow what is there
    #[arg(long)]
    apply: bool,
    /// Who asks for that
    #[arg(long, env = "USER", default_value = "operator", value_parser = words::actor)]
    actor: String,
}

impl Reconcile {
    pub async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        let access = if self.apply { Access::Write } else { Access::Read };
        let whole = Whole::open(common, access).await?;
        let key = whole.key(&self.date)?;
        ask::within_reach(whole.graph(), key.date, whole.now).map_err(Fault::usage)?;
        let engine = &whole.engine;
        let found = engine.compare(&key).await.map_err(Fault::unusable)?;
        let applied = if self.apply { carry::reconcile(common, engine, &found, &self.actor).await? } else { 0 };
        // What nobody has looked at is not so.
        let nothing_told = found.unknown.len() + found.not_kept == found.asked;
        if common.json {
            say!("{}", json!({ "reconciled": found, "applied": applied }));
        } else {
            print(&found, self.apply);
        }
        Ok(match () {
            () if nothing_told => Verdict::Stale,
            () if found.differences.is_empty() || self.apply => Verdict::Holds,
            () => Verdict::Fails,
        })
    }
}

fn print(found: &Reconciled, applied: bool) {
    let (paint, key) = (Paint::stdout(), &found.partition);
    let told = found.asked - found.not_kept - found.unknown.len();
    say!("{}: the warehouse tells of {told} of {} outputs", paint.strong(&key.to_string()), found.asked);
    if !found.unknown.is_empty() {
        let names: Vec<&str> = found.unknown.iter().map(NodeId::as_str).collect();
        say!("  {}", paint.bad(&format!("it could not tell of {}", names.join(", "))));
    }
    if told == 0 {
        say!("  nothing can be said of what is believed: the warehouse keeps nothing of this date, or does not answer");
        return;
    }
    if found.differences.is_empty() {
        say!("  what is believed of them is so");
        return;
    }
    for difference in &found.differences {
        let (before, after) = (&difference.believed, &difference.would_be);
        let short = if difference.is_short { paint.bad(" counts as done, and is short") } else { String::new() };
        let moved = if before.state == after.state { String::new() } else { format!(", and is then {}", after.state) };
        say!(
            "  {}: believed {} with {}; there is {}{moved}{short}",
            difference.node,
            before.state,
            before.output,
            after.output
        );
    }
    let names: Vec<&str> = found.dispatches.iter().map(|asked| asked.node.as_str()).collect();
    match (applied, names.as_slice()) {
        (true, _) => say!("The date follows what is there; a running service sends what that makes necessary."),
        (false, []) => say!("With --apply the date follows what is there; nothing is dispatched at once."),
        (false, names) => {
            say!("With --apply the date follows what is there, and these are dispatched: {}", names.join(", "))
        }
    }
}
