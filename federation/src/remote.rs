//! The way to other servers, as the core knows it.

use crate::Federation;
use futures_util::future::BoxFuture;
use myelin_core::Result;
use myelin_core::keys::{claim, query, remote_device_lists};
use myelin_core::ports::{Remote, Wish};
use myelin_core::replicas::Note;
use myelin_core::rooms::append::Draft;
use myelin_core::rooms::cache::Room;
use myelin_core::rooms::directory::{Listing, Search};
use myelin_core::rooms::hierarchy::Branch;
use myelin_core::rooms::timestamp_to_event::{Moment, Nearest};
use ruma::canonical_json::CanonicalJsonObject;
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, RoomAliasId, RoomId, ServerName, UserId};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Remote for Federation {
    fn join<'a>(&'a self, wish: Wish<'a>) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.join_room(wish))
    }

    fn knock<'a>(&'a self, wish: Wish<'a>) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.knock_room(wish))
    }

    fn leave<'a>(&'a self, wish: Wish<'a>) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.leave_room(wish))
    }

    fn invite<'a>(&'a self, room: &'a Arc<Room>, draft: Draft) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.invite_user(room, draft))
    }

    fn alias<'a>(
        &'a self,
        alias: &'a RoomAliasId,
    ) -> BoxFuture<'a, Result<(OwnedRoomId, Vec<OwnedServerName>)>> {
        Box::pin(self.remote_alias(alias))
    }

    fn profile<'a>(
        &'a self,
        user: &'a UserId,
        field: Option<&'a str>,
    ) -> BoxFuture<'a, Result<BTreeMap<String, Value>>> {
        Box::pin(self.remote_profile(user, field))
    }

    fn public_rooms<'a>(
        &'a self,
        server: &'a ServerName,
        search: &'a Search,
    ) -> BoxFuture<'a, Result<Listing>> {
        Box::pin(self.remote_public_rooms(server, search))
    }

    fn hierarchy<'a>(
        &'a self,
        server: &'a ServerName,
        room_id: &'a RoomId,
        suggested_only: bool,
    ) -> BoxFuture<'a, Result<Branch>> {
        Box::pin(self.remote_hierarchy(server, room_id, suggested_only))
    }

    fn query_keys<'a>(
        &'a self,
        server: &'a ServerName,
        wanted: query::Wanted,
    ) -> BoxFuture<'a, Result<query::Answer>> {
        Box::pin(self.remote_keys(server, wanted))
    }

    fn policy_signature<'a>(
        &'a self,
        server: &'a ServerName,
        event: &'a CanonicalJsonObject,
    ) -> BoxFuture<'a, Result<String>> {
        Box::pin(self.ask_policy_server(server, event))
    }

    fn device_list<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<remote_device_lists::List>> {
        Box::pin(self.remote_device_list(user))
    }

    fn claim_keys<'a>(
        &'a self,
        server: &'a ServerName,
        wanted: claim::Wanted,
    ) -> BoxFuture<'a, Result<claim::Keys>> {
        Box::pin(self.remote_one_time_keys(server, wanted))
    }

    fn typing(&self, room_pk: i64, user_pk: i64, typing: bool) {
        self.sender.typing(room_pk, user_pk, typing);
    }

    fn presence(&self, user_pk: i64) {
        self.sender.presence(user_pk);
    }

    fn hear(&self, note: Note<'_>) {
        match note {
            Note::Told { text, .. } => {
                if let Some(server) = self.client.backoff.hear(text) {
                    self.sender.wake(&server);
                }
                self.hear_of_join(text);
            }
            Note::SomeWereMissed => self.look_who_is_back(),
        }
    }

    fn event_near<'a>(
        &'a self,
        room: &'a Arc<Room>,
        moment: Moment,
        anchor: OwnedEventId,
    ) -> BoxFuture<'a, Result<Option<Nearest>>> {
        Box::pin(self.fetch_event_near(room, moment, anchor))
    }

    fn backfill<'a>(
        &'a self,
        room: &'a Arc<Room>,
        before: &'a [OwnedEventId],
        limit: usize,
    ) -> BoxFuture<'a, Result<usize>> {
        Box::pin(self.fetch_history(room, before, limit))
    }
}
