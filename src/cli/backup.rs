//! `backup`, `restore`, `migrate`: the embedded store as a file.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::say::say;
use super::{Common, Fault, Verdict, backend};
use crate::adapter::embedded::{self, BackupError, Checked, Embedded, FILE, OpenError};
use crate::clock::Clock;
use crate::configuration::{Backend, Configuration};

/// `tipoff backup FILE`
#[derive(Args)]
#[command(
    after_help = "Works beside a running service, and has read the copy whole before it says so. What is at FILE is \
    left as it is.\nExample: tipoff backup /backups/tipoff-$(date +%F).db"
)]
pub struct Backup {
    /// Where to
    file: PathBuf,
}

/// `tipoff restore FILE`
#[derive(Args)]
#[command(
    after_help = "No service may run meanwhile. What has been decided since the copy is forgotten: messages of that \
    time that are not delivered again are told by `tipoff reconcile DATE --apply`, and what was dispatched is dispatched again \
    under the same ids.\nExample: tipoff restore /backups/tipoff-2026-01-23.db --replace"
)]
pub struct Restore {
    /// The copy
    file: PathBuf,
    /// Lay aside what is there now
    #[arg(long)]
    replace: bool,
}

/// `tipoff migrate`
#[derive(Args)]
#[command(
    after_help = "A service does it when it starts. Either makes a copy first, so that the version before can go \
    back to it; this reads everything before and afterwards as well. On Google Cloud every version reads the documents of the one before, and \
    nothing has to be changed."
)]
pub struct Migrate {
    /// Say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Where to copy it before [default: beside it, as tipoff.db.layout-N]
    #[arg(long, value_name = "FILE", conflicts_with = "dry_run")]
    copy: Option<PathBuf>,
}

fn fault(error: BackupError) -> Fault {
    match error {
        BackupError::There(_) | BackupError::Log(_) | BackupError::Shadows(_) | BackupError::Real(_) => {
            Fault::usage(error)
        }
        BackupError::Open(OpenError::InUse(_)) => Fault::unusable(error),
        other => Fault::unusable(other),
    }
}

/// The configuration, if it is about a file.
fn embedded(common: &Common) -> Result<Configuration, Fault> {
    let configuration = common.configuration()?;
    match configuration.backend {
        Backend::Embedded => Ok(configuration),
        Backend::Google => Err(Fault::usage(anyhow::anyhow!(
            "the store is in Firestore, which has backups of its own: `gcloud firestore backups schedules create`"
        ))),
    }
}

fn words(checked: &Checked) -> String {
    let Checked { schema, partitions, journal, waiting, undelivered, letters, shadow } = checked;
    let shadow = if *shadow { "; decided in the shadow" } else { "" };
    format!(
        "{partitions} dates, {journal} decisions, {waiting} effects and {undelivered} messages that have not left, {letters} \
         dead letters; layout {schema}{shadow}"
    )
}

impl Backup {
    pub async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        let configuration = embedded(common)?;
        let (data, to) = (configuration.data.clone(), self.file.clone());
        let copied =
            tokio::task::spawn_blocking(move || Embedded::back_up(&data, &to)).await.map_err(Fault::unusable)?;
        let checked = match copied {
            Ok(checked) => checked,
            Err(BackupError::Open(error)) => return Err(backend::no_store(&configuration, &error)),
            Err(error) => return Err(fault(error)),
        };
        if common.json {
            say!("{}", json!({ "file": self.file, "holds": checked }));
        } else {
            say!("{}: {}", self.file.display(), words(&checked));
        }
        Ok(Verdict::Holds)
    }
}

impl Restore {
    pub async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        let configuration = embedded(common)?;
        let (data, from, shadow) = (configuration.data.clone(), self.file.clone(), configuration.shadow);
        let aside = self.replace.then(|| Clock::System.now().strftime("before-%Y%m%d-%H%M%S-%3f").to_string());
        let restored = tokio::task::spawn_blocking(move || Embedded::restore(&from, &data, shadow, aside.as_deref()));
        let (checked, aside) = match restored.await.map_err(Fault::unusable)? {
            Err(BackupError::There(path)) => {
                let path = path.display();
                return Err(Fault::usage(anyhow::anyhow!("{path} is there already: --replace lays it aside")));
            }
            restored => restored.map_err(fault)?,
        };
        if common.json {
            say!("{}", json!({ "data": configuration.data, "holds": checked, "laid_aside": aside }));
            return Ok(Verdict::Holds);
        }
        say!("{}: {}", configuration.data.join(FILE).display(), words(&checked));
        if let Some(aside) = aside {
            say!("what was there is {}", aside.display());
        }
        say!("what has come since that copy is told by `tipoff reconcile DATE --apply`");
        Ok(Verdict::Holds)
    }
}

impl Migrate {
    pub async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        if common.configuration()?.backend == Backend::Google {
            say!("nothing to do: every version reads the documents of the one before");
            return Ok(Verdict::Holds);
        }
        let configuration = embedded(common)?;
        let (data, dry_run, copy) = (configuration.data.clone(), self.dry_run, self.copy.clone());
        let done = tokio::task::spawn_blocking(move || migrate(&data, dry_run, copy.as_deref()));
        let done = done.await.map_err(Fault::unusable)?;
        let (before, after, copy) = match done {
            Err(BackupError::Open(error)) => return Err(backend::no_store(&configuration, &error)),
            done => done.map_err(fault)?,
        };
        let is_new = before.schema == embedded::SCHEMA;
        if common.json {
            say!("{}", json!({ "before": before, "after": after, "copy": copy, "layout": embedded::SCHEMA }));
            return Ok(if is_new || after.is_some() { Verdict::Holds } else { Verdict::Fails });
        }
        match (&after, is_new) {
            (_, true) => say!("nothing to do: {}", words(&before)),
            (None, false) => say!("layout {} becomes {}: {}", before.schema, embedded::SCHEMA, words(&before)),
            (Some(after), false) => say!("layout {} has become {}: {}", before.schema, after.schema, words(after)),
        }
        if let Some(copy) = copy {
            say!("as it was before: {}", copy.display());
        }
        Ok(if is_new || after.is_some() { Verdict::Holds } else { Verdict::Fails })
    }
}

/// What the file was, what it is where it was changed, and where it is as it was.
fn migrate(
    data: &Path,
    dry_run: bool,
    copy: Option<&Path>,
) -> Result<(Checked, Option<Checked>, Option<PathBuf>), BackupError> {
    let path = data.join(FILE);
    let before = embedded::check(&path)?;
    if dry_run {
        return Ok((before, None, None));
    }
    let copy = Embedded::migrate(data, copy)?;
    let after = copy.is_some().then(|| embedded::check(&path)).transpose()?;
    Ok((before, after, copy))
}
