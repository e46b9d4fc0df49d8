//! The signing key: rotated by command, with the old one published.

use std::sync::Arc;

use myelin::assembly;
use myelin_core::{config, signing_key};
use myelin_federation::server_keys::own;
use serde_json::Value;

use crate::support::each_database;

#[tokio::test]
async fn an_old_key_stays_published() {
    for database in each_database().await.into_iter().filter(|database| database.replicas == 1) {
        let folder = tempfile::tempdir().unwrap();
        let variables = [
            Some(("MYELIN_DATA_DIR".to_owned(), folder.path().display().to_string())),
            database.url.map(|url| ("MYELIN_DATABASE_URL".to_owned(), url)),
        ];
        let variables: Vec<_> = variables.into_iter().flatten().collect();
        let open = async || {
            let settings = config::load(None, variables.clone()).unwrap();
            Arc::new(assembly::open_server(settings).await.unwrap())
        };
        let server = open().await;
        let first = server.key.id().to_string();
        let published = server.key.public_base64().to_owned();
        let rotated = signing_key::rotate(&server).await.unwrap();
        assert_eq!(
            (&rotated.old, server.key.id().as_str()),
            (&first, first.as_str()),
            "restarted, it changes"
        );
        let now = server.now_ms();
        server.close().await;
        let server = open().await;
        assert_eq!(server.key.id().as_str(), rotated.new);
        let document: Value = serde_json::from_str(&own::document(&server).await.unwrap()).unwrap();
        let keys: Vec<&String> = document["verify_keys"].as_object().unwrap().keys().collect();
        assert_eq!(keys, [&rotated.new]);
        let old = &document["old_verify_keys"][&first];
        assert_eq!(old["key"], published);
        assert!(old["expired_ts"].as_i64().is_some_and(|at| at <= now && at > now - 60_000), "{document}");
        // What is asked of a notary about the time before is answered with the old key.
        assert!(own::key(&server, &first, now - 60_000).await.unwrap().is_some());
        assert!(own::key(&server, &first, now + 60_000).await.unwrap().is_none());
        server.close().await;
    }
}
