//! Keys of other servers' users. What a server says about users that it was not asked for is left out.

use super::request::Patience;
use crate::Federation;
use myelin_core::Result;
use myelin_core::keys::{claim, query};
use ruma::ServerName;
use ruma::api::federation::keys::{claim_keys, get_keys};
use ruma::serde::Raw;

impl Federation {
    pub(crate) async fn remote_keys(
        &self,
        server: &ServerName,
        wanted: query::Wanted,
    ) -> Result<query::Answer> {
        let request = get_keys::v1::Request::new(wanted.clone());
        let found = self.client.send(server, request, Patience::QUICK).await?;
        let mut answer = query::Answer::default();
        for (user, devices) in found.device_keys {
            if wanted.contains_key(&user) {
                let devices = devices.into_iter().map(|(id, keys)| (id, Raw::into_json(keys))).collect();
                answer.device_keys.insert(user, devices);
            }
        }
        let asked = |user: &ruma::OwnedUserId| wanted.contains_key(user);
        answer.master_keys = found
            .master_keys
            .into_iter()
            .filter(|(user, _)| asked(user))
            .map(|(user, key)| (user, key.into_json()))
            .collect();
        answer.self_signing_keys = found
            .self_signing_keys
            .into_iter()
            .filter(|(user, _)| asked(user))
            .map(|(user, key)| (user, key.into_json()))
            .collect();
        Ok(answer)
    }

    pub(crate) async fn remote_one_time_keys(
        &self,
        server: &ServerName,
        wanted: claim::Wanted,
    ) -> Result<claim::Keys> {
        let mut claims = claim_keys::v1::OneTimeKeyClaims::new();
        for (user, devices) in &wanted {
            let devices = devices.iter().map(|(id, algorithm)| (id.clone(), algorithm.as_str().into()));
            claims.insert(user.clone(), devices.collect());
        }
        let request = claim_keys::v1::Request::new(claims);
        let found = self.client.send(server, request, Patience::QUICK).await?;
        let mut keys = claim::Keys::new();
        for (user, devices) in found.one_time_keys {
            let Some(asked) = wanted.get(&user) else { continue };
            let of_user = keys.entry(user).or_default();
            for (device, found) in devices.into_iter().filter(|(device, _)| asked.contains_key(device)) {
                let found = found.into_iter().map(|(id, key)| (id.to_string(), key.into_json()));
                of_user.insert(device, found.collect());
            }
        }
        Ok(keys)
    }
}
