//! Debian's `glewlwyd`, a provider in C: RS256, groups beside the other claims, logout tokens of type `JWT` without `sid` and `exp`. Its pages are scripts over
//! an interface of JSON, which is spoken here in their place.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use http::{Method, header};
use serde_json::{Value, json};
use url::Url;
use weft_gateway::sso::{ClaimMap, ProviderConfig, Secret};

use crate::{
    browser::Web,
    provider::{Done, Foreign, PASSWORD, Process, free_port},
};

/// What the package fills a new database with: the tables, and an administrator with a password that everybody knows.
const TABLES: &str = "/usr/share/dbconfig-common/data/glewlwyd/install/sqlite3";
/// It takes the secret of a client as it stands, and not as RFC 6749 section 2.3.1 has it encoded: so one that is the same either way.
const SECRET: &str = "a-client-secret";
const HOSTS: [(&str, &str); 2] = [("weft", "portal.localhost"), ("wiki", "wiki.localhost")];

pub(crate) struct Glewlwyd {
    dir: PathBuf,
    port: u16,
    process: Process,
}

impl Foreign for Glewlwyd {
    async fn install(dir: &Path, back_channel: &str) -> Result<Self> {
        let provider = Self { dir: dir.to_owned(), port: free_port()?, process: Process::default() };
        let tables = std::fs::read(TABLES).with_context(|| format!("cannot read {TABLES}: `cargo xtask test gateway` installs it"))?;
        run(Command::new("sqlite3").arg(dir.join("db")), &tables)?;
        std::fs::write(dir.join("conf"), provider.config())?;
        provider.start().await?;
        provider.furnish(back_channel).await?;
        provider.stop().await?;
        Ok(provider)
    }

    fn issuer(&self) -> String {
        self.at("/api/oidc")
    }

    fn client(&self, id: &str) -> ProviderConfig {
        ProviderConfig {
            name: "glewlwyd".to_owned(),
            title: "Glewlwyd".to_owned(),
            issuer: self.issuer(),
            client_id: id.to_owned(),
            client_secret: Some(Secret::new(SECRET.to_owned())),
            scopes: vec!["openid".to_owned()],
            claims: ClaimMap::default(),
            groups: Vec::new(),
            api_audiences: Vec::new(),
        }
    }

    async fn start(&self) -> Result<()> {
        let args = [format!("--config-file={}", self.dir.join("conf").display())];
        self.process.start(Path::new("glewlwyd"), &args, &[], &self.dir, self.port).await
    }

    async fn stop(&self) -> Result<()> {
        self.process.stop().await
    }

    async fn set_groups(&self, user: &str, groups: &[&str]) -> Result<()> {
        let mut admin = self.admin().await?;
        let path = format!("/api/user/{user}");
        let mut person = self.call(&mut admin, Method::GET, &path, &Value::Null).await?;
        person["groups"] = json!(groups);
        self.call(&mut admin, Method::PUT, &path, &person).await.map(drop)
    }

    async fn at_page(&self, web: &mut Web, user: &str, url: &str, _: &str) -> Result<Done> {
        let url = Url::parse(url)?;
        ensure!(url.path() == "/login.html", "an unknown page {url}");
        let query = |name: &str| url.query_pairs().find(|(n, _)| n == name).map(|(_, value)| value.into_owned());
        if query("prompt").as_deref() == Some("end_session") {
            let sid = query("sid").context("no session is named")?;
            self.call(web, Method::DELETE, &format!("/api/oidc/session/{sid}"), &Value::Null).await?;
            self.call(web, Method::DELETE, "/api/auth/", &Value::Null).await?;
            return Ok(Done { typed_password: false, next: query("callback_url").context("nowhere to go")? });
        }
        let known = self.call(web, Method::GET, "/api/profile_list", &Value::Null).await.is_ok();
        if !known {
            let password = if user == "nobody" { "a guess" } else { PASSWORD };
            let name = if user == "nobody" { "alice" } else { user };
            self.call(web, Method::POST, "/api/auth/", &json!({"username": name, "password": password})).await?;
        }
        let client = query("client_id").context("no client is named")?;
        self.call(web, Method::PUT, &format!("/api/auth/grant/{client}"), &json!({"scope": "openid"})).await?;
        Ok(Done { typed_password: !known, next: query("callback_url").context("nowhere to go")? + "&g_continue" })
    }
}

impl Glewlwyd {
    fn at(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn config(&self) -> String {
        let (port, db) = (self.port, self.dir.join("db").display().to_string());
        let modules = ["user", "client", "user_auth_scheme", "plugin"]
            .map(|kind| format!("{kind}_module_path=\"/usr/lib/glewlwyd/{}\"\n", if kind == "user_auth_scheme" { "scheme" } else { kind }));
        // Without the three paths it takes what it finds in memory for a wish for TLS.
        format!(
            "port={port}\nbind_address=\"127.0.0.1\"\nexternal_url=\"http://127.0.0.1:{port}\"\nlogin_url=\"login.html\"\napi_prefix=\"api\"\nlog_mode=\"console\"\nlog_level=\"INFO\"\n\
             cookie_secure=0\nsession_expiration=86400\nsession_key=\"GLEWLWYD2_SESSION_ID\"\nadmin_scope=\"g_admin\"\nprofile_scope=\"g_profile\"\n{}\
             use_secure_connection=false\nsecure_connection_key_file=\"/nonexistent\"\nsecure_connection_pem_file=\"/nonexistent\"\nsecure_connection_ca_file=\"/nonexistent\"\n\
             hash_algorithm=\"SHA512\"\ndatabase = {{ type = \"sqlite3\"; path = \"{db}\"; }};\n",
            modules.concat()
        )
    }

    /// Fields that the tables do not have yet, the provider proper, clients, people.
    async fn furnish(&self, back_channel: &str) -> Result<()> {
        let mut admin = self.admin().await?;
        for (kind, field, multiple) in [("user", "groups", true), ("client", "backchannel_logout_uri", false), ("client", "post_logout_redirect_uris", true)] {
            let path = format!("/api/mod/{kind}/database");
            let mut module = self.call(&mut admin, Method::GET, &path, &Value::Null).await?;
            module["parameters"]["data-format"][field] =
                json!({"multiple": multiple, "read": true, "write": true, "profile-read": true, "profile-write": false});
            self.call(&mut admin, Method::PUT, &path, &module).await?;
            self.call(&mut admin, Method::PUT, &format!("{path}/reset/"), &Value::Null).await?;
        }
        self.call(&mut admin, Method::POST, "/api/mod/plugin/", &self.plugin()?).await?;
        for (id, host) in HOSTS {
            let mut client = json!({
                "client_id": id, "name": id, "confidential": true, "password": SECRET, "enabled": true, "scope": [], "authorization_type": ["code", "refresh_token"],
                "token_endpoint_auth_method": ["client_secret_basic"], "redirect_uri": [format!("https://{host}:8443/.weft/callback")],
                "post_logout_redirect_uris": [format!("https://{host}:8443/.weft/signed-out")],
            });
            if id == "weft" {
                client["backchannel_logout_uri"] = back_channel.into();
            }
            self.call(&mut admin, Method::POST, "/api/client/", &client).await?;
        }
        for (name, groups) in [("alice", vec!["sales", "ops"]), ("bob", vec!["support"])] {
            let person = json!({
                "username": name, "name": name, "email": format!("{name}@corp.example"), "password": PASSWORD, "enabled": true, "scope": ["openid", "g_profile"],
                "groups": groups,
            });
            self.call(&mut admin, Method::POST, "/api/user/", &person).await?;
        }
        Ok(())
    }

    fn plugin(&self) -> Result<Value> {
        let key = run(Command::new("openssl").args(["genrsa", "2048"]), b"")?;
        let public = run(Command::new("openssl").args(["rsa", "-pubout"]), key.as_bytes())?;
        let page = "https://example.com/";
        let claim = |name: &str, property: &str| json!({"name": name, "user-property": property, "type": "string", "mandatory": true, "scope": []});
        Ok(json!({"module": "oidc", "name": "oidc", "display_name": "oidc", "parameters": {
            "iss": self.issuer(), "jwt-type": "rsa", "jwt-key-size": "256", "key": key, "cert": public, "jwks-show": true,
            "access-token-duration": 7200, "refresh-token-duration": 86400, "code-duration": 60, "refresh-token-rolling": true, "refresh-token-one-use": "always",
            "auth-type-code-enabled": true, "auth-type-refresh-enabled": true, "allow-non-oidc": false, "pkce-allowed": true, "pkce-required": true,
            "service-documentation": page, "op-policy-uri": page, "op-tos-uri": page, "allowed-scope": ["openid"], "limit-clients-scopes": false,
            "claims": [claim("groups", "groups"), claim("preferred_username", "username")], "name-claim": "mandatory", "email-claim": "mandatory",
            "session-management-allowed": true, "session-cookie-name": "GLEWLWYD2_OIDC_SID", "session-cookie-expiration": 86400,
            "back-channel-logout-allowed": true, "front-channel-logout-allowed": false,
        }}))
    }

    async fn admin(&self) -> Result<Web> {
        let mut web = Web::new();
        self.call(&mut web, Method::POST, "/api/auth/", &json!({"username": "admin", "password": "password"})).await?;
        Ok(web)
    }

    async fn call(&self, web: &mut Web, method: Method, path: &str, body: &Value) -> Result<Value> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = web.send(method.clone(), &self.at(path), "application/json", &body).await?;
        if !answer.status().is_success() || answer.headers().contains_key(header::LOCATION) {
            bail!("{method} {path}: {} {}", answer.status(), String::from_utf8_lossy(answer.body()));
        }
        Ok(serde_json::from_slice(answer.body()).unwrap_or_default())
    }
}

/// Runs a program to its end with this on its standard input, and gives what it printed.
fn run(command: &mut Command, input: &[u8]) -> Result<String> {
    let name = command.get_program().display().to_string();
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().with_context(|| format!("{name} cannot be started"))?;
    child.stdin.take().context("no input")?.write_all(input)?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{name} ended with {}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}
