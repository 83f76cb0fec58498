//! EST's operations (RFC 7030 §4) over HTTP, and the revocation lists. Errors are sentences for people
//! (§4.2.3): what is wrong, and what to do.

use std::sync::Arc;

use axum::{
    Extension, Router,
    body::{Body, to_bytes},
    extract::{Path, Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri,
        header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
    routing::{get, post},
};
use drover_pki::{
    est::{LONGEST_REQUEST, certificates_only, decode_request, request_attributes},
    verify::MinionCertificate,
};
use drover_proto::tunnel::Admission;
use rustls_pki_types::CertificateDer;

use super::{Peer, Shared};
use crate::{
    operational::IssueError,
    registry::{AskedBy, IssueRefused},
};

const ROOT: &str = "/.well-known/est";
const TRANSFER_ENCODING: HeaderName = HeaderName::from_static("content-transfer-encoding");
const REQUEST: &str = "application/pkcs10";
const PEM: &str = "application/x-pem-file";

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route(&format!("{ROOT}/cacerts"), get(authorities))
        .route(&format!("{ROOT}/csrattrs"), get(attributes))
        .route(&format!("{ROOT}/simpleenroll"), post(enrol))
        // §4.2.2: the same, to whoever has an operational certificate already.
        .route(&format!("{ROOT}/simplereenroll"), post(enrol))
        .route("/crl.pem", get(current_list))
        .route("/{file}", get(list))
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .with_state(shared)
}

/// An answer that is no success.
struct Refused {
    status: StatusCode,
    header: Option<(HeaderName, HeaderValue)>,
    text: String,
}

impl Refused {
    fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, header: None, text: text.into() }
    }

    fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some((name, value));
        self
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let kind = [(CONTENT_TYPE, "text/plain; charset=utf-8")];
        let headers = HeaderMap::from_iter(self.header);
        (self.status, headers, kind, self.text + "\n").into_response()
    }
}

/// §4.1: whom to trust, and who issues. For anyone: what a device trusts it knows already, or
/// compares.
async fn authorities(State(shared): State<Arc<Shared>>) -> Result<Response, Refused> {
    let trust = shared.trust();
    let issuer = shared.operational.authority().map(|authority| authority.der().clone());
    let mut certificates: Vec<CertificateDer<'static>> = Vec::new();
    let all = issuer.into_iter().chain(trust.anchors.certificates().to_vec());
    for certificate in all.chain(trust.cross.clone()) {
        if !certificates.contains(&certificate) {
            certificates.push(certificate);
        }
    }
    pkcs7("application/pkcs7-mime", &certificates)
}

/// §4.5: what a request should have.
async fn attributes() -> Response {
    encoded("application/csrattrs", request_attributes())
}

/// §4.2: an operational certificate for the key of the request.
async fn enrol(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Result<Response, Refused> {
    let device = admitted(&shared, &peer)?;
    let (head, body) = request.into_parts();
    check_type(&head.headers)?;
    let request = read(body).await?;
    let issued = shared.operational.issue(device, &request, AskedBy::Est).await;
    let issued = issued.map_err(|error| {
        tracing::warn!(minion = %device.id, reason = error.reason(), "no certificate by EST");
        refusal(&error)
    })?;
    tracing::info!(minion = %device.id, serial = %issued.certificate.serial, "issued by EST");
    // §4.2.3: that certificate alone; its authority is among `cacerts`.
    pkcs7("application/pkcs7-mime; smime-type=certs-only", &issued.chain[..1])
}

/// The device, if it showed a certificate and is accepted.
fn admitted<'a>(shared: &Shared, peer: &'a Peer) -> Result<&'a MinionCertificate, Refused> {
    let Some(device) = &peer.device else {
        let text = "Enrolment needs the device's certificate in the TLS handshake: its birth certificate, or the \
                    operational one that it renews (`curl --cert idevid.crt --key idevid.key …`).";
        // RFC 9110 §11.6.1 wants a challenge, and no scheme is registered for certificates.
        let challenge = HeaderValue::from_static("ClientCertificate realm=\"drover\"");
        return Err(Refused::new(StatusCode::UNAUTHORIZED, text).with(WWW_AUTHENTICATE, challenge));
    };
    match shared.registry.admit(device, peer.address) {
        Ok(()) => Ok(device),
        Err(refusal) => Err(Refused::new(StatusCode::FORBIDDEN, format!("Refused: {refusal}."))),
    }
}

fn check_type(headers: &HeaderMap) -> Result<(), Refused> {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case(REQUEST) {
        return Ok(());
    }
    let text = format!("The body must be a PKCS#10 request: send `Content-Type: {REQUEST}`.");
    Err(Refused::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text))
}

async fn read(body: Body) -> Result<Vec<u8>, Refused> {
    let wrong = |status, reason: String| {
        let hint = "Make a request with `openssl req -new -key device.key -subj /CN=device -outform DER | \
                    openssl base64`.";
        Refused::new(status, format!("{reason}. {hint}"))
    };
    let body = to_bytes(body, LONGEST_REQUEST).await.map_err(|_| {
        let reason = format!("The body ended early, or has more than {LONGEST_REQUEST} bytes");
        wrong(StatusCode::PAYLOAD_TOO_LARGE, reason)
    })?;
    decode_request(&body)
        .map_err(|error| wrong(StatusCode::BAD_REQUEST, format!("This is no request: {error}")))
}

fn refusal(error: &IssueError) -> Refused {
    let reason = error.reason();
    match error {
        IssueError::Request(_) => Refused::new(
            StatusCode::BAD_REQUEST,
            format!(
                "The request is refused: {reason}. It needs a P-256 key, and its own key's signature."
            ),
        ),
        IssueError::TooLong(_) => Refused::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!(
                "The request is refused: {reason}. Nothing but its key is looked at: leave the rest out."
            ),
        ),
        IssueError::Refused(IssueRefused::TooOften(_)) => {
            let text = format!("Refused for now: {reason}.");
            Refused::new(StatusCode::TOO_MANY_REQUESTS, text)
                .with(RETRY_AFTER, HeaderValue::from_static("600"))
        }
        IssueError::Refused(
            IssueRefused::NotAccepted(_) | IssueRefused::Replaced(_) | IssueRefused::Retired(_),
        ) => Refused::new(StatusCode::FORBIDDEN, format!("Refused: {reason}.")),
        IssueError::Refused(IssueRefused::Full | IssueRefused::Stopping)
        | IssueError::Off
        | IssueError::Expired(_)
        | IssueError::Sign(_) => Refused::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("No certificate can be issued: {reason}. Ask the operator of this master."),
        )
        .with(RETRY_AFTER, HeaderValue::from_static("600")),
    }
}

/// The list of the authority that issues now.
async fn current_list(State(shared): State<Arc<Shared>>) -> Result<Response, Refused> {
    let lists = shared.crl.published();
    let list = lists.first().ok_or_else(no_list)?;
    Ok(([(CONTENT_TYPE, PEM)], list.list.to_pem()).into_response())
}

/// `crl-NAME.pem`: another authority's.
async fn list(
    State(shared): State<Arc<Shared>>,
    Path(file): Path<String>,
    uri: Uri,
) -> Result<Response, Refused> {
    let name = file.strip_prefix("crl-").and_then(|rest| rest.strip_suffix(".pem"));
    let Some(name) = name else { return Err(not_found(uri).await) };
    let own = shared
        .crl
        .published()
        .iter()
        .find(|list| list.name() == name)
        .map(|list| list.list.to_pem());
    let pem = match own {
        Some(pem) => pem,
        None => {
            let station = shared.crl.factory_list_named(name).map_err(|error| {
                tracing::error!(error = &error as &dyn std::error::Error, "read a station's list");
                Refused::new(StatusCode::SERVICE_UNAVAILABLE, "The list cannot be read now.")
            })?;
            station.ok_or_else(no_list)?.pem
        }
    };
    Ok(([(CONTENT_TYPE, PEM)], pem).into_response())
}

fn no_list() -> Refused {
    let text =
        "There is no such revocation list: `drover key crl --out json` names those that there are.";
    Refused::new(StatusCode::NOT_FOUND, text)
}

async fn not_found(uri: Uri) -> Refused {
    let text = format!(
        "There is no `{}`. EST is at {ROOT}/cacerts, csrattrs, simpleenroll and simplereenroll; /crl.pem is the \
         revocation list.",
        uri.path()
    );
    Refused::new(StatusCode::NOT_FOUND, text)
}

async fn not_allowed(method: Method, uri: Uri) -> Refused {
    let text = format!("`{}` does not take {method}.", uri.path());
    Refused::new(StatusCode::METHOD_NOT_ALLOWED, text)
}

fn pkcs7(kind: &'static str, certificates: &[CertificateDer<'_>]) -> Result<Response, Refused> {
    let text = certificates_only(certificates).ok_or_else(|| {
        tracing::error!("a certificate of this fleet cannot be written as PKCS#7");
        Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "The certificates cannot be written.")
    })?;
    Ok(encoded(kind, text))
}

fn encoded(kind: &'static str, base64: String) -> Response {
    ([(CONTENT_TYPE, kind), (TRANSFER_ENCODING, "base64")], base64).into_response()
}
