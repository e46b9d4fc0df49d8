//! The endpoints of the server-server API.

use myelin_federation::inbound::{
    authorization, backfill, device, directory, discovery, event, keys, membership, openid, query, space,
    thirdparty, transactions,
};

use super::route::{Route, route_open, route_signed, route_signed_v1};

pub(super) fn endpoints() -> Vec<Route> {
    vec![
        // Who this server is
        route_open(discovery::version).at_any_time(),
        route_open(discovery::server_keys)
            .at_any_time()
            .also_at(&["/_matrix/key/v2/server/", "/_matrix/key/v2/server/{key_id}"]),
        route_open(discovery::notary),
        route_open(discovery::notary_batch),
        // Events
        route_signed(transactions::send),
        route_signed(event::event),
        route_signed(event::state),
        route_signed(event::state_ids),
        route_signed(event::missing_events),
        route_signed(event::timestamp_to_event),
        route_signed(authorization::event_auth),
        route_signed(backfill::backfill),
        // Membership
        route_signed(membership::make_join),
        route_signed(membership::send_join),
        route_signed_v1("/_matrix/federation/v1/send_join/{room_id}/{event_id}", membership::send_join),
        route_signed(membership::make_leave),
        route_signed(membership::send_leave),
        route_signed_v1("/_matrix/federation/v1/send_leave/{room_id}/{event_id}", membership::send_leave),
        route_signed(membership::make_knock),
        route_signed(membership::send_knock),
        route_signed(membership::invite),
        route_signed(membership::invite_v1),
        route_signed(thirdparty::exchange),
        route_open(thirdparty::bound),
        // Rooms seen from outside
        route_signed(directory::public_rooms),
        route_signed(directory::search),
        route_signed(space::hierarchy),
        // Users
        route_open(openid::userinfo),
        route_signed(query::profile),
        route_signed(query::directory),
        route_signed(device::devices),
        route_signed(keys::query),
        route_signed(keys::claim),
    ]
}
