//! Tokens.

use crate::http::tokens::Role;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A token to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "ci", "role": "submitter", "projects": ["apollo"], "expires_in_seconds": 2_592_000}))]
pub struct TokenRequest {
    /// Who will have it: `[A-Za-z0-9_][A-Za-z0-9_.#-]{0,127}`, not in use.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// Projects that it is good for; all, if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub projects: Vec<String>,
    /// After how long it is good for nothing; never, if that is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_seconds: Option<u64>,
}

/// A token that was made. This is the only time that it is shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenCreated {
    /// The token itself.
    #[schema(example = "cairn_0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")]
    pub token: String,
    /// What is kept of it.
    #[serde(flatten)]
    pub info: TokenInfo,
}

/// A token, without itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenInfo {
    /// Its id, by which it is revoked.
    #[schema(example = "5f0c3a9e21b7")]
    pub id: String,
    /// Who has it.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// Projects that it is good for; all, if there are none.
    pub projects: Vec<String>,
    /// When it was made.
    pub created_at: String,
    /// From when it is good for nothing.
    pub expires_at: Option<String>,
}

/// All tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenList {
    /// The tokens, in the order of their making.
    pub tokens: Vec<TokenInfo>,
}
