//! A token's objects: the private key, made or found, and its public half.

use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use super::{TokenError, TokenUri};
use crate::key::{KeyError, PublicKey};

/// `OBJECT IDENTIFIER` secp256r1, as `CKA_EC_PARAMS` has it.
const P256: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// What stands before the point in a `SubjectPublicKeyInfo` of P-256.
const SPKI: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// The private key that a URI names.
pub(super) fn find(session: &Session, uri: &TokenUri) -> Result<Option<ObjectHandle>, TokenError> {
    let wanted = template(ObjectClass::PRIVATE_KEY, uri.object.as_deref(), uri.id.as_deref());
    let found = session.find_objects(&wanted).map_err(TokenError::refused("look for the key"))?;
    match found.as_slice() {
        [] => Ok(None),
        [key] => Ok(Some(*key)),
        [_, ..] => Err(TokenError::ManyKeys { uri: uri.to_string() }),
    }
}

/// Makes the key pair that a URI names. The private half never leaves the token.
pub(super) fn generate(session: &Session, uri: &TokenUri) -> Result<ObjectHandle, TokenError> {
    let mut id = [0; 16];
    let random = aws_lc_rs::rand::fill(&mut id);
    random.map_err(|_| TokenError::Key(KeyError::Random))?;
    let id = uri.id.clone().unwrap_or_else(|| id.to_vec());
    let mut names = vec![Attribute::Token(true), Attribute::Id(id)];
    if let Some(label) = &uri.object {
        names.push(Attribute::Label(label.as_bytes().to_vec()));
    }
    let public = [Attribute::Verify(true), Attribute::EcParams(P256.to_vec())];
    let private = [
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
    ];
    let (public, private) = ([&names, &public[..]].concat(), [&names, &private[..]].concat());
    session
        .generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private)
        .map(|(_, private)| private)
        .map_err(TokenError::refused("make a key"))
}

/// The public half of a private key: from the public object beside it, or where a token keeps none,
/// from the private one.
pub(super) fn public(session: &Session, key: ObjectHandle) -> Result<PublicKey, TokenError> {
    let refused = || TokenError::refused("show the key");
    let kinds = [AttributeType::KeyType, AttributeType::Id, AttributeType::Label];
    let (mut id, mut label) = (None, None);
    for attribute in session.get_attributes(key, &kinds).map_err(refused())? {
        if let Attribute::KeyType(kind) = &attribute
            && *kind != KeyType::EC
        {
            return Err(TokenError::Key(KeyError::Kind));
        }
        if let Attribute::Id(value) = &attribute {
            id = (!value.is_empty()).then(|| value.clone());
        }
        if let Attribute::Label(value) = &attribute {
            label = String::from_utf8(value.clone()).ok();
        }
    }
    // By its id, as PKCS#11 pairs them; by its label only where it has no id.
    let label = label.as_deref().filter(|_| id.is_none());
    let wanted = template(ObjectClass::PUBLIC_KEY, label, id.as_deref());
    let found = session.find_objects(&wanted).map_err(refused())?;
    for object in found.into_iter().chain([key]) {
        let values = [AttributeType::EcParams, AttributeType::EcPoint];
        let values = session.get_attributes(object, &values).map_err(refused())?;
        let (mut curve, mut point) = (None, None);
        for value in values {
            if let Attribute::EcParams(value) = value {
                curve = Some(value);
            } else if let Attribute::EcPoint(value) = value {
                point = Some(value);
            }
        }
        if let (Some(curve), Some(point)) = (curve, point) {
            return of_point(&curve, &point).map_err(TokenError::Key);
        }
    }
    Err(TokenError::Key(KeyError::Public))
}

fn of_point(curve: &[u8], point: &[u8]) -> Result<PublicKey, KeyError> {
    if curve != P256 {
        return Err(KeyError::Kind);
    }
    // An `OCTET STRING` by the standard; some modules leave its head out.
    let point = match point {
        [0x04, 65, rest @ ..] if rest.len() == 65 => rest,
        whole => whole,
    };
    PublicKey::from_spki(&[&SPKI, point].concat())
}

fn template(class: ObjectClass, label: Option<&str>, id: Option<&[u8]>) -> Vec<Attribute> {
    let mut wanted = vec![Attribute::Token(true), Attribute::Class(class)];
    wanted.extend(label.map(|label| Attribute::Label(label.as_bytes().to_vec())));
    wanted.extend(id.map(|id| Attribute::Id(id.to_vec())));
    wanted
}
