//! A user's devices.

use super::{LONGEST_TEXT, check_text};
use crate::error::{Error, Result};
use crate::server::Server;
use myelin_storage::Tx;
use myelin_storage::keys::device_lists::{self, Change};
use myelin_storage::log::Kind;
use myelin_storage::users::devices;
pub use myelin_storage::users::devices::Device;

/// All devices of a user.
pub async fn list(server: &Server, user_pk: i64) -> Result<Vec<Device>> {
    Ok(devices::of_user(&mut server.database.read().await?, user_pk).await?)
}

/// One device.
pub async fn get(server: &Server, user_pk: i64, device_id: &str) -> Result<Device> {
    let found = devices::get(&mut server.database.read().await?, user_pk, device_id).await?;
    found.ok_or_else(|| Error::not_found("you have no device of this id"))
}

/// Names a device. Its name is shown with its keys, so this changes the device list.
pub async fn rename(server: &Server, user_pk: i64, device_id: String, name: String) -> Result<()> {
    check_text("display_name", &name, LONGEST_TEXT)?;
    server
        .commit
        .run(move |tx| {
            Box::pin(async move {
                if !devices::rename(tx, user_pk, &device_id, &name).await? {
                    return Err(Error::not_found("you have no device of this id"));
                }
                Ok(device_lists::changed(tx, user_pk, Change::Devices(&[&device_id])).await?)
            })
        })
        .await
}

/// Deletes devices by their ids; ids that are not there are passed over.
pub async fn delete(server: &Server, user_pk: i64, device_ids: Vec<String>) -> Result<()> {
    server
        .commit
        .run(move |tx| {
            Box::pin(
                async move { remove(tx, user_pk, |device| device_ids.contains(&device.device_id)).await },
            )
        })
        .await
}

/// Deletes devices by their numbers.
pub(super) async fn delete_by_pk(server: &Server, user_pk: i64, device_pks: Vec<i64>) -> Result<()> {
    let wanted = move |device: &Device| device_pks.contains(&device.device_pk);
    server.commit.run(move |tx| Box::pin(async move { remove(tx, user_pk, wanted).await })).await
}

/// Deletes all devices of a user but one.
pub(super) async fn remove_all_but(tx: &mut Tx, user_pk: i64, kept: Option<i64>) -> Result<()> {
    remove(tx, user_pk, |device| Some(device.device_pk) != kept).await
}

async fn remove(tx: &mut Tx, user_pk: i64, wanted: impl Fn(&Device) -> bool) -> Result<()> {
    let mut gone = devices::of_user(tx, user_pk).await?;
    gone.retain(wanted);
    if gone.is_empty() {
        return Ok(());
    }
    let pks: Vec<i64> = gone.iter().map(|device| device.device_pk).collect();
    devices::delete(tx, user_pk, &pks).await?;
    tx.entry(Kind::Tokens, user_pk, 0);
    let ids: Vec<&str> = gone.iter().map(|device| device.device_id.as_str()).collect();
    Ok(device_lists::changed(tx, user_pk, Change::Devices(&ids)).await?)
}
