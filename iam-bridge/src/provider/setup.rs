//! From the configuration to a provider: secrets of clients are read, or made on the first start.

use std::{path::Path, sync::Arc, time::SystemTime};

use anyhow::{Context as _, Result, anyhow, ensure};
use tracing::info;
use zeroize::Zeroizing;

use super::{
    Client, Issuer, Provider, SecretHash, Settings,
    random::{self, Random, System},
};
use crate::{
    config::{ClientConfig, ProviderConfig},
    files::{StateDir, read_secret, write_secret},
    limits::provider as limits,
    metrics::Metrics,
    store::People,
};

/// Opens the provider of this configuration, with the bridge's database at `database`.
pub(crate) fn set_up(config: &ProviderConfig, state: &StateDir, database: &str, metrics: Arc<Metrics>, now: SystemTime) -> Result<Provider> {
    let issuer = Issuer::parse(&config.issuer).map_err(|e| anyhow!("field provider.issuer: {e}"))?;
    let clients = config.clients.iter().map(|c| Ok(Arc::new(client(c, state)?))).collect::<Result<_>>()?;
    let ProviderConfig { session_idle, session_life, token_ttl, .. } = *config;
    let settings = Settings { issuer, session_idle, session_life, token_ttl, clients };
    Ok(Provider::open(state, People::open(&state.file(database))?, settings, Box::new(System), metrics, now)?)
}

fn client(config: &ClientConfig, state: &StateDir) -> Result<Client> {
    let path = config.secret_file.clone().unwrap_or_else(|| state.file(&format!("provider-client-{}.secret", config.id)));
    let secret = secret(&path, &config.id, &mut System)?;
    Ok(Client {
        id: config.id.clone(),
        secret: SecretHash::of(&secret),
        redirect_uris: config.redirect_uris.clone(),
        post_logout_redirect_uris: config.post_logout_redirect_uris.clone(),
        backchannel_logout_uri: config.backchannel_logout_uri.clone(),
        origins: config.origins.clone(),
    })
}

/// One line of printable ASCII, as it stands in headers and forms.
fn secret(path: &Path, client: &str, random: &mut dyn Random) -> Result<Zeroizing<String>> {
    if let Some(text) = read_secret(path)? {
        let secret = Zeroizing::new(text.trim().to_owned());
        let fits = (limits::CLIENT_SECRET_MIN_CHARS..=limits::CLIENT_SECRET_MAX_CHARS).contains(&secret.len()) && secret.bytes().all(|b| b.is_ascii_graphic());
        let (least, most) = (limits::CLIENT_SECRET_MIN_CHARS, limits::CLIENT_SECRET_MAX_CHARS);
        ensure!(
            fits,
            "{} must hold {least} to {most} printable characters of ASCII, the secret of client {client}; remove it to have one made",
            path.display()
        );
        return Ok(secret);
    }
    let fresh = random::secret(random);
    let line = Zeroizing::new(format!("{}\n", *fresh));
    write_secret(path, line.as_bytes()).with_context(|| format!("no secret can be made for client {client}"))?;
    info!(target: "weft_audit", event = "client-secret", client, file = %path.display(), "made a secret for a client of the provider");
    Ok(fresh)
}

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn a_secret_is_made_once_and_only_one_that_nobody_else_can_read_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let read = || secret(&path, "gateway", &mut System).map(|s| s.to_string()).map_err(|e| format!("{e:#}"));
        let made = read().unwrap();
        assert_eq!((made.len(), read().unwrap()), (43, made.clone()));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert!(read().unwrap_err().contains("may be read by others"));
        for (text, fits) in [("a".repeat(32), true), ("a".repeat(31), false), ("a b".repeat(20), false), ("ü".repeat(40), false), (String::new(), false)] {
            write_secret(&path, text.as_bytes()).unwrap();
            assert_eq!(read().is_ok(), fits, "{text}");
        }
    }
}
