//! `tipoff tables`: the tables of the history.

use super::backend::{self, Emulators, project};
use super::say::say;
use super::{Common, Fault, Verdict};

/// Creates the tables that are not there. What is there is left as it is.
pub async fn create(common: &Common) -> Result<Verdict, Fault> {
    let declarations = common.declarations()?;
    let configuration = common.configuration()?;
    let emulators = Emulators::find().map_err(|error| Fault::usage(anyhow::anyhow!(error)))?;
    if emulators.pubsub.is_some() && emulators.bigquery.is_none() {
        let why = "the others are emulators; BIGQUERY_EMULATOR_HOST names the one in which tables are to be made";
        return Err(Fault::usage(anyhow::anyhow!(why)));
    }
    let bigquery = backend::bigquery(&configuration, project(&configuration)?, &emulators, &declarations).await?;
    bigquery.create_tables().await.map_err(|error| Fault::unusable(anyhow::anyhow!(error)))?;
    if common.json {
        say!("{}", serde_json::json!({ "created": true }));
    } else {
        say!("the history's tables are there");
    }
    Ok(Verdict::Holds)
}
