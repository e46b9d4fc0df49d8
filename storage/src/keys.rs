//! Encryption keys and what depends on them: device keys, one-time and fallback keys, cross-signing keys, device
//! lists, key backups.

pub mod backups;
pub mod cross_signing;
pub mod device_keys;
pub mod device_lists;
pub mod fallback_keys;
pub mod one_time_keys;
pub mod remote_device_lists;
