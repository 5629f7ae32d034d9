//! The types of the openidconnect crate as they are used here, and nothing else: its generic parameters are chosen in this file only.

use openidconnect::{
    EndpointMaybeSet, EndpointNotSet, EndpointSet,
    core::{CoreClient, CoreIdToken, CoreJsonWebKeySet, CoreJwsSigningAlgorithm, CoreTokenResponse},
};

/// Discovery with the address of the provider's logout.
pub(crate) type Metadata = openidconnect::ProviderMetadataWithLogout;
pub(crate) type Keys = CoreJsonWebKeySet;
pub(crate) type IdToken = CoreIdToken;
pub(crate) type TokenAnswer = CoreTokenResponse;
pub(crate) type Verifier<'a> = openidconnect::core::CoreIdTokenVerifier<'a>;
/// A client of a provider whose metadata is known.
pub(crate) type Client = CoreClient<EndpointSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointMaybeSet, EndpointMaybeSet>;

/// What a provider may sign with. No shared secrets: the verifier's key would be the signer's. Never `none`.
pub(crate) const ALGORITHMS: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];
