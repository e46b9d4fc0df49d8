//! `register`: makes an account, then logs in to it.

use crate::{
    commands::login,
    output::Output,
    passphrase,
    session::{self, Credentials, Profile},
};
use anyhow::{Context, Result, bail};
use clap::Args;
use matrix_sdk::ruma::api::client::{
    account::register::v3::Request,
    uiaa::{AuthData, AuthType, Dummy, RegistrationToken, UiaaInfo},
};

/// Arguments of `register`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The server: its name or its URL
    pub server: String,
    /// The name of the new account, without @ and server
    pub user: String,
    /// The registration token, where the server asks for one
    #[arg(long, env = "MYELIN_CLIENT_REGISTRATION_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// How the device is called in lists
    #[arg(long, default_value = login::DEVICE_NAME)]
    pub device_name: String,
}

/// Makes the account and logs in.
pub async fn run(profile: Profile, arguments: &Arguments, out: &Output) -> Result<()> {
    let password = passphrase::ask_or_variable("Password for the new account: ", login::PASSWORD).await?;
    if std::env::var_os(login::PASSWORD).is_none()
        && passphrase::ask_or_variable("Once more: ", login::PASSWORD).await? != password
    {
        bail!("the two passwords differ");
    }
    let progress = out.progress("Making the account");
    create(&arguments.server, &arguments.user, &password, arguments.token.as_deref()).await?;
    drop(progress);
    let credentials = Credentials {
        server: &arguments.server,
        user: &arguments.user,
        password: &password,
        device_name: &arguments.device_name,
        passphrase: None,
    };
    login::log_in(profile, credentials, out).await?.finish(out).await
}

/// Makes an account, without logging in.
pub async fn create(server: &str, user: &str, password: &str, token: Option<&str>) -> Result<()> {
    let client = session::anonymous(server).await?;
    let mut request = Request::new();
    request.username = Some(user.to_owned());
    request.password = Some(password.to_owned());
    // Logging in is done by the one piece of code that does it well.
    request.inhibit_login = true;
    // Each refusal names the stages that are still missing; no server has more than a handful.
    for _ in 0..5 {
        let error = match client.matrix_auth().register(request.clone()).await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        let Some(info) = error.as_uiaa_response() else {
            return Err(error).context("the server did not make the account");
        };
        if let Some(reason) = &info.auth_error {
            bail!("the server did not make the account: {}", reason.message);
        }
        request.auth = Some(next_stage(info, token)?);
    }
    bail!("the server asks for more and more steps")
}

/// The next stage of a flow that can be completed here.
fn next_stage(info: &UiaaInfo, token: Option<&str>) -> Result<AuthData> {
    let possible = |stage: &AuthType| match stage {
        AuthType::Dummy => true,
        AuthType::RegistrationToken => token.is_some(),
        _ => false,
    };
    let open = |stage: &&AuthType| !info.completed.contains(stage);
    let flow = info.flows.iter().find(|flow| flow.stages.iter().filter(open).all(possible));
    match (flow.and_then(|flow| flow.stages.iter().find(open)), token) {
        (Some(AuthType::RegistrationToken), Some(token)) => {
            let mut data = RegistrationToken::new(token.to_owned());
            data.session.clone_from(&info.session);
            Ok(AuthData::RegistrationToken(data))
        }
        (Some(_), _) => {
            let mut data = Dummy::new();
            data.session.clone_from(&info.session);
            Ok(AuthData::Dummy(data))
        }
        (None, None) if asks_for_token(info) => {
            bail!("the server asks for a registration token: use --token")
        }
        (None, _) => bail!("the server asks for steps that need a web browser"),
    }
}

fn asks_for_token(info: &UiaaInfo) -> bool {
    info.flows.iter().any(|flow| flow.stages.contains(&AuthType::RegistrationToken))
}

#[cfg(test)]
mod tests {
    use super::*;
    use matrix_sdk::ruma::api::client::uiaa::AuthFlow;

    fn info(flows: &[&[AuthType]], completed: &[AuthType]) -> UiaaInfo {
        let mut info = UiaaInfo::new(flows.iter().map(|stages| AuthFlow::new(stages.to_vec())).collect());
        info.completed = completed.to_vec();
        info.session = Some("s".to_owned());
        info
    }

    #[test]
    fn picks_a_flow_that_can_be_completed() {
        let captcha_or_dummy = info(&[&[AuthType::ReCaptcha], &[AuthType::Dummy]], &[]);
        assert!(
            matches!(next_stage(&captcha_or_dummy, None).unwrap(), AuthData::Dummy(data) if data.session.as_deref() == Some("s"))
        );
        let flow: &[AuthType] = &[AuthType::RegistrationToken, AuthType::Dummy];
        assert!(
            matches!(next_stage(&info(&[flow], &[]), Some("t")).unwrap(), AuthData::RegistrationToken(data) if data.token == "t")
        );
        assert!(matches!(
            next_stage(&info(&[flow], &[AuthType::RegistrationToken]), Some("t")).unwrap(),
            AuthData::Dummy(_)
        ));
    }

    #[test]
    fn says_what_is_missing() {
        let error = next_stage(&info(&[&[AuthType::RegistrationToken]], &[]), None).unwrap_err();
        assert!(error.to_string().contains("--token"));
        assert!(next_stage(&info(&[&[AuthType::ReCaptcha]], &[]), None).is_err());
    }
}
