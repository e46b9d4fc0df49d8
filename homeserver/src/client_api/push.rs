//! Push rules, and the pushers of which there are none yet.

use axum::response::Response;
use myelin_core::users::push_rules::{self, Change};
use ruma::{
    api::client::push::{
        delete_pushrule, get_pushers, get_pushrule, get_pushrule_actions, get_pushrule_enabled,
        get_pushrules_all, get_pushrules_global_scope, set_pushrule, set_pushrule_actions,
        set_pushrule_enabled,
    },
    push::{AnyPushRule, RuleKind, Ruleset},
};

use crate::{
    app::App,
    extract::{Ruma, Session},
    response::{ApiError, json},
};

async fn rules(app: &App, session: &Session) -> Result<Ruleset, ApiError> {
    Ok(push_rules::get(&app.server, session.user_pk, &session.user).await?)
}

async fn rule(app: &App, session: &Session, kind: RuleKind, id: &str) -> Result<AnyPushRule, ApiError> {
    let rules = rules(app, session).await?;
    let rule = rules.get(kind, id).map(|rule| rule.to_owned());
    rule.ok_or_else(|| ApiError::not_found("there is no such push rule"))
}

async fn change(app: &App, session: &Session, change: Change) -> Result<(), ApiError> {
    Ok(push_rules::change(&app.server, session.user_pk, &session.user, change).await?)
}

/// `GET /_matrix/client/v3/pushrules/`
pub async fn all(
    app: App,
    request: Ruma<get_pushrules_all::v3::Request>,
) -> Result<get_pushrules_all::v3::Response, ApiError> {
    Ok(get_pushrules_all::v3::Response::new(rules(&app, &request.identity).await?))
}

/// `GET /_matrix/client/v3/pushrules/global/`
pub async fn global(
    app: App,
    request: Ruma<get_pushrules_global_scope::v3::Request>,
) -> Result<get_pushrules_global_scope::v3::Response, ApiError> {
    Ok(get_pushrules_global_scope::v3::Response::new(rules(&app, &request.identity).await?))
}

/// `GET /_matrix/client/v3/pushrules/global/{kind}/{ruleId}`
pub async fn get(
    app: App,
    request: Ruma<get_pushrule::v3::Request>,
) -> Result<get_pushrule::v3::Response, ApiError> {
    let rule = rule(&app, &request.identity, request.body.kind, &request.body.rule_id).await?;
    Ok(get_pushrule::v3::Response::new(rule.into()))
}

/// `PUT /_matrix/client/v3/pushrules/global/{kind}/{ruleId}`
pub async fn set(
    app: App,
    request: Ruma<set_pushrule::v3::Request>,
) -> Result<set_pushrule::v3::Response, ApiError> {
    let set_pushrule::v3::Request { rule, before, after, .. } = request.body;
    change(&app, &request.identity, Change::Put { rule, after, before }).await?;
    Ok(set_pushrule::v3::Response::new())
}

/// `DELETE /_matrix/client/v3/pushrules/global/{kind}/{ruleId}`
pub async fn delete(
    app: App,
    request: Ruma<delete_pushrule::v3::Request>,
) -> Result<delete_pushrule::v3::Response, ApiError> {
    change(&app, &request.identity, Change::Remove(request.body.kind, request.body.rule_id)).await?;
    Ok(delete_pushrule::v3::Response::new())
}

/// `GET /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/enabled`
pub async fn enabled(
    app: App,
    request: Ruma<get_pushrule_enabled::v3::Request>,
) -> Result<get_pushrule_enabled::v3::Response, ApiError> {
    let rule = rule(&app, &request.identity, request.body.kind, &request.body.rule_id).await?;
    Ok(get_pushrule_enabled::v3::Response::new(rule.enabled()))
}

/// `PUT /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/enabled`
pub async fn enable(
    app: App,
    request: Ruma<set_pushrule_enabled::v3::Request>,
) -> Result<set_pushrule_enabled::v3::Response, ApiError> {
    let body = request.body;
    change(&app, &request.identity, Change::Enable(body.kind, body.rule_id, body.enabled)).await?;
    Ok(set_pushrule_enabled::v3::Response::new())
}

/// `GET /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/actions`
pub async fn actions(
    app: App,
    request: Ruma<get_pushrule_actions::v3::Request>,
) -> Result<get_pushrule_actions::v3::Response, ApiError> {
    let rule = rule(&app, &request.identity, request.body.kind, &request.body.rule_id).await?;
    Ok(get_pushrule_actions::v3::Response::new(rule.actions().to_vec()))
}

/// `PUT /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/actions`
pub async fn act(
    app: App,
    request: Ruma<set_pushrule_actions::v3::Request>,
) -> Result<set_pushrule_actions::v3::Response, ApiError> {
    let body = request.body;
    change(&app, &request.identity, Change::Act(body.kind, body.rule_id, body.actions)).await?;
    Ok(set_pushrule_actions::v3::Response::new())
}

/// `GET /_matrix/client/v3/pushers`
pub async fn pushers(_app: App, _request: Ruma<get_pushers::v3::Request>) -> Result<Response, ApiError> {
    json(&serde_json::json!({ "pushers": [] }))
}
