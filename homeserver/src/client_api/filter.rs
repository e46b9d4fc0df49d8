//! Filters that clients store.

use myelin_core::users::filters;
use ruma::api::client::filter::{create_filter, get_filter};

use crate::{app::App, extract::Ruma, response::ApiError};

/// `POST /_matrix/client/v3/user/{userId}/filter`
pub async fn create(
    app: App,
    request: Ruma<create_filter::v3::Request>,
) -> Result<create_filter::v3::Response, ApiError> {
    request.identity.check_is(&request.body.user_id)?;
    let id = filters::put(&app.server, request.identity.user_pk, &request.body.filter).await?;
    Ok(create_filter::v3::Response::new(id))
}

/// `GET /_matrix/client/v3/user/{userId}/filter/{filterId}`
pub async fn get(
    app: App,
    request: Ruma<get_filter::v3::Request>,
) -> Result<get_filter::v3::Response, ApiError> {
    request.identity.check_is(&request.body.user_id)?;
    let filter = filters::get(&app.server, request.identity.user_pk, &request.body.filter_id).await?;
    Ok(get_filter::v3::Response::new(filter))
}
