//! Device lists of other servers' users.

use super::request::Patience;
use crate::Federation;
use myelin_core::Result;
use myelin_core::keys::remote_device_lists::List;
use ruma::UserId;
use ruma::api::federation::device::get_devices;
use ruma::serde::Raw;

impl Federation {
    pub(crate) async fn remote_device_list(&self, user: &UserId) -> Result<List> {
        let request = get_devices::v1::Request::new(user.to_owned());
        let found = self.client.send(user.server_name(), request, Patience::QUICK).await?;
        let devices = found.devices.into_iter();
        Ok(List {
            stream_id: Some(found.stream_id.into()),
            devices: devices
                .map(|device| (device.device_id, device.device_display_name, device.keys.into_json()))
                .collect(),
            master_key: found.master_key.map(Raw::into_json),
            self_signing_key: found.self_signing_key.map(Raw::into_json),
        })
    }
}
