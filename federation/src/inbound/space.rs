//! Spaces: the rooms in them.

use super::same_json;
use crate::Federation;
use myelin_core::Result;
use ruma::OwnedServerName;
use ruma::api::federation::space::get_hierarchy;
use std::sync::Arc;

/// `GET /hierarchy/{roomId}`
pub async fn hierarchy(
    federation: Arc<Federation>,
    origin: OwnedServerName,
    request: get_hierarchy::v1::Request,
) -> Result<get_hierarchy::v1::Response> {
    let branch = federation.server.branch_for(&request.room_id, &origin, request.suggested_only).await?;
    let mut answer = get_hierarchy::v1::Response::new(same_json(&branch.room)?);
    answer.children = same_json(&branch.children)?;
    answer.inaccessible_children = branch.inaccessible_children;
    Ok(answer)
}
