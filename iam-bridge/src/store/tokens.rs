//! Join tokens, without their secrets.

use rusqlite::{OptionalExtension as _, params};
use weft_identity::TokenSecretHash;
use weft_types::{Consumer, NodeName};

use super::{Change, Store, StoreError, explain};

#[derive(Clone, Debug)]
pub(crate) struct TokenRow {
    pub(crate) id: String,
    pub(crate) secret_hash: TokenSecretHash,
    /// The only node that may use it.
    pub(crate) node: NodeName,
    pub(crate) may_run: Vec<Consumer>,
    /// Unix seconds.
    pub(crate) expires_at: i64,
}

impl Store {
    pub(crate) fn token(&self, id: &str) -> Result<Option<TokenRow>, StoreError> {
        let row = self
            .db
            .query_row("SELECT secret_hash, node, may_run, expires_at FROM token WHERE id = ?1", [id], |r| {
                Ok((r.get::<_, [u8; 32]>(0)?, r.get::<_, String>(1)?, r.get::<_, String>(2)?, r.get(3)?))
            })
            .optional()
            .map_err(|e| explain(&self.path, e))?;
        let Some((hash, node, may_run, expires_at)) = row else { return Ok(None) };
        let node = node.parse().map_err(|_| self.unreadable(format!("the node of token {id}")))?;
        let may_run = serde_json::from_str(&may_run).map_err(|_| self.unreadable(format!("the services of token {id}")))?;
        Ok(Some(TokenRow { id: id.to_owned(), secret_hash: TokenSecretHash(hash), node, may_run, expires_at }))
    }
}

impl Change<'_> {
    pub(crate) fn add_token(&self, token: &TokenRow) -> Result<(), StoreError> {
        let may_run = serde_json::to_string(&token.may_run).expect("strings");
        self.execute(
            "INSERT INTO token (id, secret_hash, node, may_run, expires_at) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![token.id, token.secret_hash.0, token.node.as_str(), may_run, token.expires_at],
        )
    }

    pub(crate) fn drop_expired_tokens(&self, now: i64) -> Result<(), StoreError> {
        self.execute("DELETE FROM token WHERE expires_at <= ?1", [now])
    }

    pub(crate) fn count_tokens(&self) -> Result<usize, StoreError> {
        let count: i64 = self.tx.query_row("SELECT count(*) FROM token", [], |r| r.get(0)).map_err(|e| explain(self.path, e))?;
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    pub(crate) fn drop_tokens_of(&self, node: &NodeName) -> Result<(), StoreError> {
        self.execute("DELETE FROM token WHERE node = ?1", [node.as_str()])
    }
}
