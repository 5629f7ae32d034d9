//! npm `oidc-provider`, a certified provider in JavaScript: ES256, nested groups as Keycloak sends them, one-time refresh tokens, logout tokens with `sid`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use http::{Method, header};
use serde_json::{Value, json};
use url::Url;
use weft_gateway::sso::{ClaimMap, ClaimPath, ProviderConfig, Secret};

use crate::{
    browser::Web,
    provider::{Done, Foreign, PASSWORD, Process, free_port, node_dir},
};

/// With what has to be encoded on the way (RFC 6749 section 2.3.1).
const SECRET: &str = "a client secret";

pub(crate) struct OidcProvider {
    dir: PathBuf,
    port: u16,
    back_channel: String,
    process: Process,
}

impl Foreign for OidcProvider {
    async fn install(dir: &Path, back_channel: &str) -> Result<Self> {
        let people = json!({"alice": {"name": "Alice", "groups": ["sales", "ops"]}, "bob": {"name": "Bob", "groups": ["support"]}});
        std::fs::write(dir.join("people.json"), people.to_string())?;
        Ok(Self { dir: dir.to_owned(), port: free_port()?, back_channel: back_channel.to_owned(), process: Process::default() })
    }

    fn issuer(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn client(&self, id: &str) -> ProviderConfig {
        let nested = [vec!["realm_access", "roles"], vec!["resource_access", "weft", "roles"]];
        ProviderConfig {
            name: "npm".to_owned(),
            title: "npm oidc-provider".to_owned(),
            issuer: self.issuer(),
            client_id: id.to_owned(),
            client_secret: Some(Secret::new(SECRET.to_owned())),
            scopes: ["openid", "profile", "email", "roles", "offline_access"].map(str::to_owned).to_vec(),
            claims: ClaimMap { groups: nested.into_iter().map(ClaimPath::new).collect(), ..ClaimMap::default() },
            groups: Vec::new(),
            api_audiences: Vec::new(),
        }
    }

    async fn start(&self) -> Result<()> {
        let node = node_dir();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/node/oidc-provider.mjs").to_owned();
        let args = [script, self.dir.display().to_string(), self.port.to_string(), self.back_channel.clone()];
        self.process.start(&node.join("node"), &args, &[("WEFT_NODE", node.display().to_string())], &self.dir, self.port).await
    }

    async fn stop(&self) -> Result<()> {
        self.process.stop().await
    }

    async fn set_groups(&self, user: &str, groups: &[&str]) -> Result<()> {
        let file = self.dir.join("people.json");
        let mut people: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
        people[user]["groups"] = json!(groups);
        std::fs::write(self.dir.join("people.next"), people.to_string())?;
        Ok(std::fs::rename(self.dir.join("people.next"), &file)?)
    }

    /// Its pages are forms: one to sign in, which takes any name that is in the file, and one that asks whether to sign out.
    async fn at_page(&self, web: &mut Web, user: &str, url: &str, html: &str) -> Result<Done> {
        let action = attribute(html, "action").with_context(|| format!("no form at {url}: {html}"))?;
        let (typed_password, form) = if html.contains("name=\"login\"") {
            (true, format!("prompt=login&login={user}&password={}", PASSWORD.replace(' ', "+")))
        } else if let Some(xsrf) = html.split("name=\"xsrf\"").nth(1).and_then(|rest| attribute(rest, "value")) {
            (false, format!("xsrf={xsrf}&logout=yes"))
        } else {
            bail!("an unknown form at {url}: {html}");
        };
        if user == "nobody" {
            bail!("knows nobody's password");
        }
        let action = Url::parse(url)?.join(&action)?;
        let answer = web.send(Method::POST, action.as_str(), "application/x-www-form-urlencoded", &form).await?;
        let next = answer.headers().get(header::LOCATION).with_context(|| format!("{action} leads nowhere: {}", String::from_utf8_lossy(answer.body())))?;
        Ok(Done { typed_password, next: action.join(next.to_str()?)?.into() })
    }
}

/// The first attribute of that name.
fn attribute(html: &str, name: &str) -> Option<String> {
    html.split(&format!("{name}=\"")).nth(1)?.split('"').next().map(|text| text.replace("&amp;", "&"))
}
