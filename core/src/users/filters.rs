//! Filters that clients store, to name them in later requests.

use crate::error::{Error, Result};
use crate::server::Server;
use myelin_storage::users::filters;
use ruma::api::client::filter::FilterDefinition;

/// Largest definition in bytes.
const LARGEST: usize = 65_536;

/// Stores a filter and gives its id; the same filter has the same id.
pub async fn put(server: &Server, user_pk: i64, filter: &FilterDefinition) -> Result<String> {
    let definition = serde_json::to_string(filter).map_err(Error::internal_display)?;
    if definition.len() > LARGEST {
        return Err(Error::TooLarge(format!("the filter is larger than {LARGEST} bytes")));
    }
    let id = server
        .commit
        .run(move |tx| Box::pin(async move { Ok(filters::insert(tx, user_pk, &definition).await?) }))
        .await?;
    Ok(id.to_string())
}

/// A stored filter.
pub async fn get(server: &Server, user_pk: i64, filter_id: &str) -> Result<FilterDefinition> {
    let not_found = || Error::not_found("there is no such filter");
    let id = filter_id.parse().map_err(|_| not_found())?;
    let definition = filters::get(&mut server.database.read().await?, user_pk, id).await?;
    serde_json::from_str(&definition.ok_or_else(not_found)?).map_err(Error::internal_display)
}
