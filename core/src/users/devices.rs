//! A user's devices.

use super::check_text;
use super::sessions::LONGEST_TEXT;
use crate::error::{Error, Result};
use crate::server::Server;
use myelin_storage::Tx;
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
                Ok(devices::list_changed(tx, user_pk).await?)
            })
        })
        .await
}

/// Deletes devices by their ids; ids that are not there are passed over.
pub async fn delete(server: &Server, user_pk: i64, device_ids: Vec<String>) -> Result<()> {
    server
        .commit
        .run(move |tx| {
            Box::pin(async move {
                let all = devices::of_user(tx, user_pk).await?;
                let wanted = |device: &&Device| device_ids.contains(&device.device_id);
                let pks = all.iter().filter(wanted).map(|device| device.device_pk).collect();
                remove(tx, user_pk, pks).await
            })
        })
        .await
}

/// Deletes devices by their numbers.
pub(super) async fn delete_by_pk(server: &Server, user_pk: i64, device_pks: Vec<i64>) -> Result<()> {
    server.commit.run(move |tx| Box::pin(async move { remove(tx, user_pk, device_pks).await })).await
}

/// Deletes all devices of a user but one.
pub(super) async fn remove_all_but(tx: &mut Tx, user_pk: i64, kept: Option<i64>) -> Result<()> {
    let all = devices::of_user(tx, user_pk).await?;
    let pks = all.iter().map(|device| device.device_pk).filter(|pk| Some(*pk) != kept).collect();
    remove(tx, user_pk, pks).await
}

async fn remove(tx: &mut Tx, user_pk: i64, device_pks: Vec<i64>) -> Result<()> {
    if device_pks.is_empty() {
        return Ok(());
    }
    devices::delete(tx, user_pk, &device_pks).await?;
    tx.entry(Kind::Tokens, user_pk, 0);
    Ok(devices::list_changed(tx, user_pk).await?)
}
