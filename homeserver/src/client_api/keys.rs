//! Encryption keys.

use axum::response::Response;
use myelin_core::{
    keys::{Device, claim, cross_signing, device_lists, query, signatures, upload},
    rooms::timeline::Point,
    users::uia,
};
use ruma::{
    OwnedUserId, UInt,
    api::client::keys::{
        claim_keys, get_key_changes, get_keys, upload_keys, upload_signatures, upload_signing_keys,
    },
    serde::Raw,
};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

use crate::{
    app::App,
    extract::{Ruma, Session},
    response::{self, ApiError},
};

/// The device of a session.
pub(super) fn device(session: &Session) -> Result<Device<'_>, ApiError> {
    Ok(Device {
        user_pk: session.user_pk,
        user_id: &session.user,
        device_pk: session.device_pk,
        device_id: session.device()?,
    })
}

/// `POST /_matrix/client/v3/keys/upload`
pub async fn upload(
    app: App,
    request: Ruma<upload_keys::v3::Request>,
) -> Result<upload_keys::v3::Response, ApiError> {
    let Ruma { body, identity, .. } = request;
    let keys = upload::Upload {
        device_keys: body.device_keys.map(Raw::into_json),
        one_time_keys: body.one_time_keys.into_iter().map(|(id, key)| (id, key.into_json())).collect(),
        fallback_keys: body.fallback_keys.into_iter().map(|(id, key)| (id, key.into_json())).collect(),
    };
    let counts = upload::upload(&app.server, device(&identity)?, keys).await?;
    let count =
        |(algorithm, count): (String, i64)| (algorithm.into(), UInt::try_from(count).unwrap_or_default());
    Ok(upload_keys::v3::Response::new(counts.into_iter().map(count).collect()))
}

/// `POST /_matrix/client/v3/keys/query`
pub async fn query(
    app: App,
    request: Ruma<get_keys::v3::Request>,
) -> Result<get_keys::v3::Response, ApiError> {
    let Ruma { body, identity, .. } = request;
    let answer = query::query(&app.server, identity.user_pk, &identity.user, body.device_keys).await?;
    let mut response = get_keys::v3::Response::new();
    for (user, devices) in answer.device_keys {
        let devices = devices.into_iter().map(|(id, keys)| (id, Raw::from_json(keys))).collect();
        response.device_keys.insert(user, devices);
    }
    let raw = |(user, key)| (user, Raw::from_json(key));
    response.master_keys = answer.master_keys.into_iter().map(raw).collect();
    response.self_signing_keys = answer.self_signing_keys.into_iter().map(raw).collect();
    response.user_signing_keys = answer.user_signing_keys.into_iter().map(raw).collect();
    response.failures = failures(answer.failures);
    Ok(response)
}

/// `POST /_matrix/client/v3/keys/claim`
pub async fn claim(
    app: App,
    request: Ruma<claim_keys::v3::Request>,
) -> Result<claim_keys::v3::Response, ApiError> {
    let mut wanted = claim::Wanted::new();
    for (user, devices) in request.body.one_time_keys {
        wanted.insert(user, devices.into_iter().map(|(id, kind)| (id, kind.to_string())).collect());
    }
    let answer = claim::claim(&app.server, wanted).await?;
    let mut keys: BTreeMap<OwnedUserId, claim_keys::v3::OneTimeKeys> = BTreeMap::new();
    for (user, devices) in answer.keys {
        let of_user = keys.entry(user).or_default();
        for (device, key) in devices {
            let of_device = of_user.entry(device).or_default();
            for (id, json) in key {
                let id = id.parse().map_err(ApiError::internal)?;
                of_device.insert(id, Raw::from_json(json));
            }
        }
    }
    let mut response = claim_keys::v3::Response::new(keys);
    response.failures = failures(answer.failures);
    Ok(response)
}

/// `GET /_matrix/client/v3/keys/changes`
pub async fn changes(
    app: App,
    request: Ruma<get_key_changes::v3::Request>,
) -> Result<get_key_changes::v3::Response, ApiError> {
    let Ruma { body, identity, .. } = request;
    let (from, to) = (Point::parse(&body.from)?.pos, Point::parse(&body.to)?.pos);
    let lists = device_lists::changes(&app.server, identity.user_pk, from, to).await?;
    let parse = |ids: Vec<String>| -> Result<Vec<OwnedUserId>, ApiError> {
        ids.into_iter().map(|id| OwnedUserId::try_from(id).map_err(ApiError::internal)).collect()
    };
    Ok(get_key_changes::v3::Response::new(parse(lists.changed)?, parse(lists.left)?))
}

/// `POST /_matrix/client/v3/keys/device_signing/upload`
pub async fn upload_signing_keys(
    app: App,
    request: Ruma<upload_signing_keys::v3::Request>,
) -> Result<upload_signing_keys::v3::Response, ApiError> {
    let Ruma { body, identity, .. } = request;
    let keys = cross_signing::Upload {
        master_key: body.master_key.map(Raw::into_json),
        self_signing_key: body.self_signing_key.map(Raw::into_json),
        user_signing_key: body.user_signing_key.map(Raw::into_json),
    };
    let asks = cross_signing::needs_reauthentication(&app.server, identity.user_pk, &keys).await?;
    if asks {
        let operation = format!("replace the cross-signing keys of {}", identity.user);
        uia::confirm(&app.server, &identity.user, &operation, body.auth.as_ref()).await?;
    }
    cross_signing::upload(&app.server, identity.user_pk, &identity.user, keys, asks).await?;
    Ok(upload_signing_keys::v3::Response::new())
}

/// `POST /_matrix/client/v3/keys/signatures/upload`
pub async fn upload_signatures(
    app: App,
    request: Ruma<upload_signatures::v3::Request>,
) -> Result<Response, ApiError> {
    let Ruma { body, identity, .. } = request;
    let mut signed = signatures::Signed::new();
    for (user, keys) in body.signed_keys {
        let keys = keys.iter().map(|(id, json)| (id.to_owned(), json.to_owned())).collect();
        signed.insert(user, keys);
    }
    let failures = signatures::upload(&app.server, identity.user_pk, &identity.user, signed).await?;
    // ruma's type for a failure cannot be made.
    let mut shown = serde_json::Map::new();
    for (user, keys) in failures {
        let keys: serde_json::Map<_, _> = keys.into_iter().map(|(id, failure)| (id, show(failure))).collect();
        shown.insert(user.to_string(), keys.into());
    }
    response::json(&json!({ "failures": shown }))
}

fn show(failure: signatures::Failure) -> Value {
    let (errcode, error) = match failure {
        signatures::Failure::InvalidSignature => ("M_INVALID_SIGNATURE", "the signature does not hold"),
        signatures::Failure::NotFound => ("M_NOT_FOUND", "there is no such key"),
    };
    json!({ "errcode": errcode, "error": error })
}

fn failures(servers: BTreeSet<String>) -> BTreeMap<String, Value> {
    let failure = json!({ "status": 503, "message": "the server could not be asked" });
    servers.into_iter().map(|server| (server, failure.clone())).collect()
}
