//! The endpoints of the server-server API.

use myelin_federation::inbound::{
    authorization, backfill, device, discovery, event, keys, membership, query, transactions,
};

use super::route::{Route, route_open, route_signed};

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
        route_signed(authorization::event_auth),
        route_signed(backfill::backfill),
        // Membership
        route_signed(membership::make_join),
        route_signed(membership::send_join),
        route_signed(membership::make_leave),
        route_signed(membership::send_leave),
        route_signed(membership::make_knock),
        route_signed(membership::send_knock),
        route_signed(membership::invite),
        // Users
        route_signed(query::profile),
        route_signed(query::directory),
        route_signed(device::devices),
        route_signed(keys::query),
        route_signed(keys::claim),
    ]
}
