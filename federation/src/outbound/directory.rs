//! Directories and spaces of other servers.

use super::request::Patience;
use crate::Federation;
use crate::inbound::same_json;
use myelin_core::Result;
use myelin_core::rooms::directory::{Listing, Search};
use myelin_core::rooms::hierarchy::Branch;
use ruma::api::federation::directory::{get_public_rooms, get_public_rooms_filtered};
use ruma::api::federation::space::get_hierarchy;
use ruma::directory::RoomTypeFilter;
use ruma::{RoomId, ServerName};

impl Federation {
    pub(crate) async fn remote_public_rooms(&self, server: &ServerName, search: &Search) -> Result<Listing> {
        let limit = search.limit.and_then(|limit| limit.try_into().ok());
        let (chunk, next_batch, prev_batch, total) = if search.term.is_none() && search.types.is_empty() {
            let mut request = get_public_rooms::v1::Request::new();
            request.limit = limit;
            request.since = search.since.clone();
            let answer = self.client.send(server, request, Patience::INSIST).await?;
            (answer.chunk, answer.next_batch, answer.prev_batch, answer.total_room_count_estimate)
        } else {
            let mut request = get_public_rooms_filtered::v1::Request::new();
            request.limit = limit;
            request.since = search.since.clone();
            request.filter.generic_search_term = search.term.clone();
            request.filter.room_types =
                search.types.iter().map(|kind| RoomTypeFilter::from(kind.as_deref())).collect();
            let answer = self.client.send(server, request, Patience::INSIST).await?;
            (answer.chunk, answer.next_batch, answer.prev_batch, answer.total_room_count_estimate)
        };
        let total = total.and_then(|total| u64::from(total).try_into().ok());
        Ok(Listing {
            total_room_count_estimate: total.unwrap_or(chunk.len()),
            chunk: same_json(&chunk)?,
            next_batch,
            prev_batch,
        })
    }

    pub(crate) async fn remote_hierarchy(
        &self,
        server: &ServerName,
        room_id: &RoomId,
        suggested_only: bool,
    ) -> Result<Branch> {
        let mut request = get_hierarchy::v1::Request::new(room_id.to_owned());
        request.suggested_only = suggested_only;
        let answer = self.client.send(server, request, Patience::QUICK).await?;
        Ok(Branch {
            room: same_json(&answer.room)?,
            children: same_json(&answer.children)?,
            inaccessible_children: answer.inaccessible_children,
        })
    }
}
